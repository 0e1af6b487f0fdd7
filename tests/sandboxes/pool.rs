//! The pool that `pool.sh` filled: a Debian base, and packages served on loopback.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::support::base::Base;
use crate::support::switch;

/// A filled pool.
pub struct Pool(PathBuf);

impl Pool {
    /// The pool of this machine; `Err` says that there is none.
    pub fn find() -> Result<Self, String> {
        let cache = || switch("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || switch("HOME").map(|home| Path::new(&home).join(".cache"));
        let below = || cache().or_else(home).map(|cache| cache.join("coracle-tests"));
        let pool = switch("CORACLE_POOL").map(PathBuf::from).or_else(below);
        let pool = pool.ok_or("neither CORACLE_POOL nor HOME says where the package pool is")?;
        match pool.join("packages/wanted").exists() {
            true => Ok(Self(pool)),
            false => Err(format!("no package pool at {}: `make pool` fills it", pool.display())),
        }
    }

    /// The Debian base.
    pub fn base(&self) -> Base {
        let layout = self.0.join("debian");
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            fs::read(layout.join("blobs/sha256").join(digest)).unwrap()
        };
        let parse = |bytes: &[u8]| -> Value { serde_json::from_slice(bytes).unwrap() };
        let index = parse(&fs::read(layout.join("index.json")).unwrap());
        let manifest = blob(&index["manifests"][0]);
        let parsed = parse(&manifest);
        let layers = parsed["layers"].as_array().unwrap().iter().map(blob).collect();
        Base { config: blob(&parsed["config"]), layers, manifest }
    }

    /// Serves the packages until the program ends.
    pub fn serve(&self) -> SocketAddr {
        let directory: Arc<Path> = self.0.join("packages").into();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let directory = Arc::clone(&directory);
                // A client that goes away is its own affair.
                std::thread::spawn(move || drop(answer(&directory, stream)));
            }
        });
        address
    }
}

/// One connection: apt asks for one file after the other.
fn answer(directory: &Path, mut stream: TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while let Some(request) = lines.next().transpose()? {
        while lines.next().transpose()?.is_some_and(|header| !header.is_empty()) {}
        let path = request.split(' ').nth(1).unwrap_or_default();
        // What apt escapes of the names that packages have.
        let name = path.rsplit('/').next().unwrap_or_default().replace("%2b", "+").replace("%7e", "~");
        match File::open(directory.join(&name)) {
            Ok(mut file) if !name.is_empty() => {
                let length = file.metadata()?.len();
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")?;
                io::copy(&mut file, &mut stream)?;
            }
            _ => write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?,
        }
    }
    Ok(())
}

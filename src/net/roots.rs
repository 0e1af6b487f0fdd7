//! The certificate authorities of the machine: `SSL_CERT_FILE` and
//! `SSL_CERT_DIR`, else the usual bundle of the distribution, else the ones
//! compiled in (a scratch image has no CA files).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Where distributions keep the one file with all CAs; the first that exists is used.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt", // Debian, Ubuntu, Alpine, Arch
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora, RHEL
    "/etc/pki/tls/certs/ca-bundle.crt",   // older Fedora, RHEL, Amazon Linux
    "/etc/ssl/ca-bundle.pem",             // openSUSE
    "/etc/ssl/cert.pem",                  // Alpine, Wolfi
    "/etc/pki/tls/cacert.pem",            // OpenELEC
];

/// Every CA that is trusted for every host.
///
/// A file that cannot be read or holds no certificate is passed over: what
/// counts is whether any remain, and then the bundled ones take their place.
pub(super) fn load(environment: &BTreeMap<String, String>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for file in named_files(environment) {
        add_file(&mut roots, &file);
    }
    if roots.is_empty() {
        roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    }
    roots
}

/// The certificates of a PEM text; text between them is allowed.
pub(super) fn parse(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    if certificates.is_empty() {
        return Err("no PEM certificate in it".to_owned());
    }
    Ok(certificates)
}

/// As OpenSSL has it: either variable replaces the system's own place.
fn named_files(environment: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let value = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    let (file, directories) = (value("SSL_CERT_FILE"), value("SSL_CERT_DIR"));
    if file.is_none() && directories.is_none() {
        return BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file()).into_iter().collect();
    }
    let mut files: Vec<PathBuf> = file.map(PathBuf::from).into_iter().collect();
    for directory in directories.map(String::as_str).unwrap_or_default().split(':') {
        files.extend(files_in(Path::new(directory)));
    }
    files
}

fn files_in(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    files
}

fn add_file(roots: &mut RootCertStore, file: &Path) {
    if let Ok(pem) = fs::read(file) {
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundled_ones_where_the_named_file_has_none() {
        let environment = BTreeMap::from([("SSL_CERT_FILE".to_owned(), "/nonexistent".to_owned())]);
        assert_eq!(load(&environment).len(), webpki_root_certs::TLS_SERVER_ROOT_CERTS.len());
    }

    #[test]
    fn a_text_without_certificates_is_refused() {
        assert!(parse(b"hello").is_err());
        assert!(parse(b"-----BEGIN CERTIFICATE-----\n***\n-----END CERTIFICATE-----\n").is_err());
    }
}

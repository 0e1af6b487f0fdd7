//! Base + layers + history → the exact bytes of config and manifest.

use std::collections::BTreeMap;

use thiserror::Error;

use super::{ContainerConfig, Descriptor, Digest, History, ImageConfig, Layer, Manifest, media_type};

/// An image ready to be written or pushed: read-only, to change it build another.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    config: Vec<u8>,
    manifest: Manifest,
    layers: Vec<Layer>,
}

impl Image {
    /// The manifest's digest: the image's name.
    pub fn digest(&self) -> Digest {
        Digest::of(self.manifest.to_bytes())
    }

    /// The config's bytes.
    pub fn config_bytes(&self) -> &[u8] {
        &self.config
    }

    /// The config's descriptor; its digest is Docker's image id.
    pub fn config(&self) -> &Descriptor {
        &self.manifest.config
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The layers, bottom first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }
}

/// Why base and layers do not make an image.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BuildError {
    /// A base lies about itself.
    #[error("the base image names {diff_ids} layers in its config and {layers} in its manifest")]
    LayerCount {
        /// In the config.
        diff_ids: usize,
        /// In the manifest.
        layers: usize,
    },
}

/// Collects what the steps of a stage did.
#[derive(Clone, Debug)]
pub struct ImageBuilder {
    config: ImageConfig,
    layers: Vec<Layer>,
    annotations: BTreeMap<String, String>,
}

impl ImageBuilder {
    /// Starts from a base: its config and its layers, bottom first.
    ///
    /// # Errors
    /// When the config names another number of layers.
    pub fn new(config: ImageConfig, layers: Vec<Layer>) -> Result<Self, BuildError> {
        if config.rootfs.diff_ids.len() != layers.len() {
            return Err(BuildError::LayerCount {
                diff_ids: config.rootfs.diff_ids.len(),
                layers: layers.len(),
            });
        }
        let mut config = config;
        line_up(&mut config.history, layers.len());
        // What an image spec does not know says something about the base, not about us.
        config.extra.retain(|name, _| matches!(name.as_str(), "os.version" | "os.features"));
        Ok(Self { config, layers, annotations: BTreeMap::new() })
    }

    /// Adds a layer and the history entry of the instruction that made it.
    pub fn layer(&mut self, layer: Layer, history: History) {
        self.config.rootfs.diff_ids.push(layer.diff_id);
        self.layers.push(layer);
        self.config.history.push(History { empty_layer: false, ..history });
    }

    /// Adds the history entry of an instruction that made no layer.
    pub fn empty(&mut self, history: History) {
        self.config.history.push(History { empty_layer: true, ..history });
    }

    /// Replaces the execution parameters.
    pub fn container(&mut self, config: ContainerConfig) {
        self.config.config = config;
    }

    /// Sets the author.
    pub fn author(&mut self, author: String) {
        self.config.author = author;
    }

    /// Sets the time of creation, RFC 3339.
    pub fn created(&mut self, created: String) {
        self.config.created = Some(created);
    }

    /// Gives every entry of the history, those of the base too, a time that is not
    /// later than `epoch` (seconds since 1970), as BuildKit does for SOURCE_DATE_EPOCH.
    pub fn clamp_history(&mut self, epoch: i64) {
        let Ok(latest) = jiff::Timestamp::from_second(epoch) else { return };
        for entry in &mut self.config.history {
            let told = entry.created.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
            if told.is_none_or(|told| told > latest) {
                entry.created = Some(latest.to_string());
            }
        }
    }

    /// Sets the manifest's annotations.
    pub fn annotations(&mut self, annotations: BTreeMap<String, String>) {
        self.annotations = annotations;
    }

    /// The layers so far, bottom first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The config so far.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// The finished image: an OCI manifest over the config and layers so far.
    pub fn finish(self) -> Image {
        let config = self.config.to_bytes();
        let manifest = Manifest {
            media_type: media_type::MANIFEST.to_owned(),
            config: Descriptor::of(media_type::CONFIG, &config),
            layers: self.layers.iter().map(Layer::descriptor).collect(),
            annotations: self.annotations,
        };
        Image { config, manifest, layers: self.layers }
    }
}

/// One entry with a layer for each layer, or what comes later would stand beside the
/// wrong one: some base images tell no history, or too much of it.
fn line_up(history: &mut Vec<History>, layers: usize) {
    let told = history.iter().filter(|entry| !entry.empty_layer).count();
    for _ in told..layers {
        history.push(History { comment: "the base image does not say".to_owned(), ..History::default() });
    }
    let surplus = told.saturating_sub(layers);
    history
        .iter_mut()
        .filter(|entry| !entry.empty_layer)
        .take(surplus)
        .for_each(|entry| entry.empty_layer = true);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Platform;

    fn layer(text: &str) -> Layer {
        Layer {
            diff_id: Digest::of(text),
            digest: Digest::of(format!("{text}.gz")),
            size: 3,
            media_type: media_type::DOCKER_LAYER_GZIP.to_owned(),
        }
    }

    #[test]
    fn layers_and_history_line_up() {
        let base = ImageConfig::scratch(&Platform::host());
        let mut builder = ImageBuilder::new(base, vec![]).unwrap();
        builder.empty(History { created_by: "ENV A=1".into(), ..History::default() });
        builder.layer(layer("x"), History { created_by: "RUN x".into(), ..History::default() });
        let image = builder.finish();
        let config = ImageConfig::parse(image.config_bytes()).unwrap();
        assert_eq!(config.rootfs.diff_ids, [Digest::of("x")]);
        assert_eq!(config.history.iter().map(|h| h.empty_layer).collect::<Vec<_>>(), [true, false]);
        assert_eq!(image.manifest().layers[0].media_type, media_type::LAYER_GZIP);
    }

    #[test]
    fn the_history_of_a_base_lines_up() {
        let check = |told: &[bool], layers: usize, expected: &[bool]| {
            let entry = |empty: &bool| History { empty_layer: *empty, ..History::default() };
            let mut history: Vec<History> = told.iter().map(entry).collect();
            line_up(&mut history, layers);
            assert_eq!(history.iter().map(|entry| entry.empty_layer).collect::<Vec<_>>(), expected);
        };
        check(&[], 2, &[false, false]);
        check(&[false, true], 1, &[false, true]);
        check(&[true, false], 2, &[true, false, false]);
        check(&[false, true, false], 1, &[true, true, false]);
    }

    #[test]
    fn a_lying_base_is_refused() {
        let base = ImageConfig::scratch(&Platform::host());
        let error = ImageBuilder::new(base, vec![layer("x")]).unwrap_err();
        assert_eq!(error, BuildError::LayerCount { diff_ids: 0, layers: 1 });
    }
}

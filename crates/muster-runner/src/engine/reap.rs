//! Removing what a job has left of containers.

use std::collections::HashMap;
use std::path::Path;

use bollard::query_parameters::{
    ListContainersOptions, ListImagesOptions, ListNetworksOptions, ListVolumesOptions,
};

use super::{Engine, LABEL, said};
use crate::spec::EngineAccess;

/// Removes the containers, networks, volumes and images that bear a mark; returns how many there were.
///
/// # Errors
///
/// A sentence, where the engine does not answer. That there is none is no error: then nothing of it is left.
pub fn reap(socket: Option<&Path>, mark: &str) -> Result<usize, String> {
    let socket = socket.map(Path::to_owned);
    let Ok(found) = super::socket(socket.as_deref()) else { return Ok(0) };
    let access = EngineAccess { socket: Some(found), mark: mark.to_owned() };
    Engine::connect(&access)?.reap(&|found| found == mark)
}

impl Engine {
    /// Removes all of which its mark says that it is left; returns how many there were.
    ///
    /// # Errors
    ///
    /// A sentence, where something stays.
    pub(crate) fn reap(&self, is_left: &dyn Fn(&str) -> bool) -> Result<usize, String> {
        let filters = || Some(HashMap::from([("label".to_owned(), vec![LABEL.to_owned()])]));
        let containers =
            ListContainersOptions { all: true, filters: filters(), ..Default::default() };
        let images = ListImagesOptions { filters: filters(), ..Default::default() };
        let networks = ListNetworksOptions { filters: filters() };
        let volumes = ListVolumesOptions { filters: filters() };
        let found = async {
            let containers = self.docker.list_containers(Some(containers)).await?;
            let networks = self.docker.list_networks(Some(networks)).await?;
            let volumes = self.docker.list_volumes(Some(volumes)).await?;
            let images = self.docker.list_images(Some(images)).await?;
            Ok((containers, networks, volumes.volumes.unwrap_or_default(), images))
        };
        let found = self.runtime.block_on(found);
        let (containers, networks, volumes, images) = found.map_err(|error| said(&error))?;
        let bears = |labels: Option<&HashMap<String, String>>| {
            labels.and_then(|labels| labels.get(LABEL)).is_some_and(|mark| is_left(mark))
        };
        let mut count = 0;
        for container in containers.iter().filter(|found| bears(found.labels.as_ref())) {
            self.remove(container.id.as_deref().unwrap_or_default())?;
            count += 1;
        }
        for network in networks.iter().filter(|found| bears(found.labels.as_ref())) {
            self.remove_network(network.name.as_deref().unwrap_or_default())?;
            count += 1;
        }
        for volume in volumes.iter().filter(|found| bears(Some(&found.labels))) {
            self.remove_volume(&volume.name)?;
            count += 1;
        }
        for image in images.iter().filter(|found| bears(Some(&found.labels))) {
            self.remove_image(&image.id)?;
            count += 1;
        }
        Ok(count)
    }
}

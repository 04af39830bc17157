//! A root file system that is not running, as with `systemctl --root`: files are laid down, nothing is started.

use std::time::Duration;

use crate::activate::{Effect, Host, HostError, Probe};
use crate::bundle::{ImageFiles, ImagePin, Layout};
use crate::model::Check;

/// No machine behind the disk. Every effect is left to the first boot, every question is answered with yes.
#[derive(Debug, Default)]
pub struct Offline {
    elapsed: Duration,
}

impl Host for Offline {
    fn perform(&mut self, _effect: &Effect) -> Result<(), HostError> {
        Ok(())
    }

    fn check(&mut self, _check: &Check, _file: &str) -> Result<(), HostError> {
        Ok(())
    }

    fn ensure_image(&mut self, _image: &ImagePin) -> Result<(), HostError> {
        Ok(())
    }

    fn has_image(&mut self, _image: &ImagePin) -> bool {
        true
    }

    fn load_image(&mut self, _: &ImagePin, _: &ImageFiles, _: &Layout) -> Result<(), HostError> {
        Ok(())
    }

    fn probe(&mut self, _probe: &Probe) -> Result<(), String> {
        Ok(())
    }

    fn restarts(&mut self, _container: &str) -> Option<u64> {
        None
    }

    fn has_a_door(&self) -> bool {
        false
    }

    fn elapsed(&mut self) -> Duration {
        self.elapsed
    }

    fn wait(&mut self, time: Duration) {
        self.elapsed += time;
    }
}

//! Loads the configuration for a command: prints problems to stderr and chooses the exit code.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use super::{CONFIGURATION, Configuration};
use crate::config::{self, Loaded, Overrides, Plan};

/// Whether problems are shown in colours.
pub fn is_coloured() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

impl Configuration {
    pub fn overrides(&self, demo: bool) -> Overrides {
        Overrides { data_dir: self.data_dir.clone(), demo, ephemeral: false }
    }

    /// Loads it and says its warnings, or says its problems.
    pub fn load(&self, overrides: &Overrides) -> Result<Loaded, ExitCode> {
        let coloured = is_coloured();
        match config::load(&config::locate(&self.config), overrides) {
            Ok(loaded) => {
                eprint!("{}", loaded.render_warnings(coloured));
                Ok(loaded)
            }
            Err(rejected) => {
                eprint!("{}", rejected.render(coloured));
                Err(ExitCode::from(CONFIGURATION))
            }
        }
    }

    /// Loads what is to run: the certificates and keys that it names have to be there, too.
    pub fn load_to_run(&self, overrides: &Overrides) -> Result<Loaded, ExitCode> {
        let loaded = self.load(overrides)?;
        loaded.check_files(is_coloured()).map_err(|problems| {
            eprint!("{problems}");
            ExitCode::from(CONFIGURATION)
        })?;
        Ok(loaded)
    }

    /// Reads it again for a running agent; the problems as texts.
    pub fn reload(&self, overrides: &Overrides) -> Result<Plan, Vec<String>> {
        let files = config::locate(&self.config);
        let is_stream = |path: &&PathBuf| path.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir());
        if let Some(stream) = files.iter().find(is_stream) {
            let path = stream.display();
            return Err(vec![format!("`{path}` is no file: it was read when the agent started and is empty now")]);
        }
        match config::load(&files, overrides) {
            Ok(loaded) => Ok(loaded.plan),
            Err(rejected) => Err(rejected
                .render(false)
                .split("\n\n")
                .filter(|text| !text.trim().is_empty())
                .map(|text| text.trim().to_owned())
                .collect()),
        }
    }

    /// A hash over the contents of all files.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = blake3::Hasher::new();
        for text in config::texts(&config::locate(&self.config)) {
            hash.update(text.name.as_bytes());
            hash.update(&text.bytes);
        }
        *hash.finalize().as_bytes()
    }
}

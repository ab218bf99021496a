//! Key files in the data folder: refused if others can read them, written completely or not at all.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Whoever else may read the file knows the key.
const OTHERS: u32 = 0o077;
/// No key is longer; a longer file is none of ours.
const MAX_BYTES: u64 = 4096;

/// The key in a file; `None` if there is none yet, or an empty one that a full disk has left behind. The error names
/// the command that fixes it.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let cannot = |error: io::Error| format!("cannot read the key `{}`: {error}", path.display());
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(cannot)?,
    };
    let mode = file.metadata().map_err(cannot)?.mode();
    if mode & OTHERS != 0 {
        let path = path.display();
        return Err(format!(
            "the key `{path}` is readable by others: run `rm {path}` to have a new one created, or `chmod 600 {path}` if nobody has read it"
        ));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(cannot)?;
    Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
}

/// Puts a key into a file. A failure leaves what was there.
pub fn write(path: &Path, key: &[u8]) -> Result<(), String> {
    let temporary = path.with_extension("new");
    let written = (|| {
        // What an earlier failure left may have another mode.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(key)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    })();
    written.map_err(|error: io::Error| format!("cannot write the key `{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("weir-key-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("the temporary folder can be written");
        folder
    }

    #[test]
    fn a_key_comes_back_as_it_was_written_and_belongs_to_its_owner_alone() {
        let folder = folder("written");
        let path = folder.join("api.secret");
        assert_eq!(read(&path), Ok(None));
        write(&path, b"one").expect("it can be written");
        write(&path, b"two").expect("it can be written again");
        assert_eq!(read(&path), Ok(Some(b"two".to_vec())));
        assert_eq!(fs::metadata(&path).expect("it is there").mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&folder).expect("the folder is there").count(), 1);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_command_that_mends_it() {
        let folder = folder("open");
        let path = folder.join("api.secret");
        for mode in [0o640, 0o604, 0o660, 0o644] {
            write(&path, b"one").expect("it can be written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("the mode can be set");
            let error = read(&path).expect_err("others know it");
            assert!(error.contains(&format!("chmod 600 {}", path.display())), "{error}");
        }
    }

    #[test]
    fn an_empty_file_that_a_full_disk_has_left_holds_no_key() {
        let folder = folder("empty");
        let path = folder.join("api.secret");
        write(&path, b"").expect("it can be written");
        assert_eq!(read(&path), Ok(None));
    }
}

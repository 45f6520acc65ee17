//! Files that other programs and systems leave in image folders, such as thumbnails and trash.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

use walkdir::{DirEntry, WalkDir};

use crate::counts::count;
use crate::error::shown;

/// Folders of thumbnails, deleted files and the like, in lower case; those that begin with a dot are skipped
/// anyway.
const FOLDERS: [&str; 24] = [
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "@__thumb",
    "@appstore",
    "@eadir",
    "@recently-snapshot",
    "@recycle",
    "@sharebin",
    "@tmp",
    "@transcode",
    "__macosx",
    "__pycache__",
    "config.msi",
    "found.000",
    "lost+found",
    "network trash folder",
    "recycled",
    "recycler",
    "system volume information",
    "temporary items",
    "thevolumesettingsfolder",
    "wpsystem",
    "~snapshot",
];

/// Files of folder views, in lower case.
const FILES: [&str; 5] = [
    "desktop.ini",
    "ehthumbs.db",
    "ehthumbs_vista.db",
    "icon\r",
    "thumbs.db",
];

/// Endings by which hidden files are counted as images.
const PICTURES: [&str; 8] = ["bmp", "gif", "jpeg", "jpg", "png", "tif", "tiff", "webp"];

/// Files that are counted in a leftover folder, at most.
const MOST_COUNTED: usize = 100_000;

/// Returns whether nobody means a file or folder of this name as images: dot files, and what other systems leave
/// behind.
pub(super) fn is_leftover(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".") || is_known(name, &FOLDERS) || is_known(name, &FILES)
}

fn is_known(name: &OsStr, known: &[&str]) -> bool {
    let name = name.to_str().map(str::to_lowercase);
    name.is_some_and(|name| known.contains(&name.as_str()))
}

/// What was skipped, by name.
#[derive(Default)]
pub(super) struct Leftovers {
    /// Number of folders of each name, and of the images in them.
    folders: BTreeMap<String, [usize; 2]>,
    /// Hidden files that are images by their endings.
    files: usize,
}

impl Leftovers {
    /// Counts the file or folder `path`, which [`is_leftover`].
    pub fn count(&mut self, path: &Path, is_folder: bool) {
        let name = path.file_name().unwrap_or_default();
        if !is_folder {
            // macOS keeps what it knows of a file in another one whose name has `._` before it.
            let is_companion = name.as_encoded_bytes().starts_with(b"._");
            self.files += usize::from(!is_companion && is_picture(path));
            return;
        }
        let files = WalkDir::new(path).into_iter().take(MOST_COUNTED).flatten();
        // Links to folders are not followed, so that a loop of them is no matter.
        let is_file =
            |e: &DirEntry| e.file_type().is_file() || e.path_is_symlink() && e.path().is_file();
        let pictures = files.filter(|e| is_picture(e.path()) && is_file(e));
        let pictures = pictures.count();
        if pictures > 0 || is_known(name, &FOLDERS) {
            let name = shown(Path::new(name)).to_string();
            let [folders, before] = self.folders.entry(name).or_default();
            *folders += 1;
            *before += pictures;
        }
    }

    /// A sentence for each name.
    pub fn warnings(&self) -> Vec<String> {
        let folders = self.folders.iter().map(|(name, [folders, pictures])| {
            let held = match pictures {
                0 => "no images in it".to_owned(),
                n => format!("{} in it", count(*n, "image")),
            };
            match folders {
                1 => format!("ignored the folder {name}: it is not a class ({held})"),
                n => format!("ignored {n} folders {name}: they are not classes ({held})")
                    .replace("in it", "in them"),
            }
        });
        let mut warnings: Vec<String> = folders.collect();
        if self.files > 0 {
            warnings.push(format!(
                "ignored hidden files, whose names start with a dot ({})",
                count(self.files, "image")
            ));
        }
        warnings
    }
}

fn is_picture(path: &Path) -> bool {
    let ending = path.extension().and_then(OsStr::to_str);
    ending.is_some_and(|ending| PICTURES.contains(&ending.to_ascii_lowercase().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn images_in_a_skipped_folder_are_counted_be_they_links() {
        use std::os::unix::fs::symlink;

        let dir = tempfile::tempdir().unwrap();
        let skipped = dir.path().join("@eaDir");
        std::fs::create_dir(&skipped).unwrap();
        std::fs::write(skipped.join("a.jpg"), b"x").unwrap();
        symlink(skipped.join("a.jpg"), skipped.join("b.JPG")).unwrap();
        symlink("a.jpg", skipped.join("c.txt")).unwrap();
        symlink("nowhere", skipped.join("d.png")).unwrap();
        symlink(".", skipped.join("loop")).unwrap();
        let mut leftovers = Leftovers::default();
        leftovers.count(&skipped, true);
        assert_eq!(
            leftovers.warnings(),
            ["ignored the folder @eaDir: it is not a class (2 images in it)"]
        );
    }

    #[test]
    fn leftovers_of_the_usual_systems_are_known() {
        for name in [
            "@eaDir",
            "@EADIR",
            "#recycle",
            "$RECYCLE.BIN",
            "$Recycle.Bin",
            ".Trash-1000",
            ".Trashes",
            "lost+found",
            "__MACOSX",
            "System Volume Information",
            ".ipynb_checkpoints",
            "Thumbs.db",
            "desktop.ini",
            "._fish.jpg",
        ] {
            assert!(is_leftover(OsStr::new(name)), "{name}");
        }
        for name in ["fish", "@home", "#1", "lost", "recycle", "thumbs"] {
            assert!(!is_leftover(OsStr::new(name)), "{name}");
        }
    }
}

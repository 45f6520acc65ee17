//! Repositories of the Hugging Face Hub, or of a server that speaks as it does: what is in them, and their files.
//!
//! As its own programs do, this reads `HF_ENDPOINT`, `HF_TOKEN`, and the token and the files below `HF_HOME`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::http::{Answer, Method, ask};
use super::{Source, Token, Wanted, download, fail};
use crate::disk::{read, write_atomic};
use crate::error::{Error, Result};
use crate::progress::Progress;

/// Where the hub is, unless `HF_ENDPOINT` says otherwise.
const ENDPOINT: &str = "https://huggingface.co";

/// Most redirections of a repository that was renamed.
const MOST_RENAMES: usize = 5;

/// The hub, and what this user has of it.
#[derive(Clone, Debug)]
pub struct Hub {
    endpoint: String,
    token: Option<Token>,
    /// The folder in which other programs keep what they fetched.
    cache: Option<PathBuf>,
}

/// What a repository holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubListing {
    /// The commit.
    pub commit: String,
    /// Paths of its files.
    pub files: Vec<String>,
    /// Its licence, as its model card states it.
    pub license: Option<String>,
}

/// A file that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubFile {
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, which only large files have on the hub.
    pub sha256: Option<String>,
    /// Its address.
    pub url: String,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Hub {
    /// The hub that the environment names, or the one at `endpoint`.
    pub fn from_environment(endpoint: Option<&str>) -> Hub {
        let home = variable("HF_HOME").map(PathBuf::from).or_else(|| {
            let cache = variable("XDG_CACHE_HOME")
                .map(PathBuf::from)
                .or_else(|| Some(PathBuf::from(variable("HOME")?).join(".cache")));
            Some(cache?.join("huggingface"))
        });
        let token_file = variable("HF_TOKEN_PATH")
            .map(PathBuf::from)
            .or_else(|| Some(home.as_ref()?.join("token")));
        let stored = || String::from_utf8(read(&token_file?, 1 << 16).ok()?).ok();
        let token = variable("HF_TOKEN")
            .or_else(stored)
            .map(|token| token.trim().to_owned());
        // Anything else is no token, and would break the header.
        let is_token =
            |token: &String| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
        let endpoint = endpoint
            .map(str::to_owned)
            .or_else(|| variable("HF_ENDPOINT"))
            .unwrap_or_else(|| ENDPOINT.to_owned());
        Hub {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: token.filter(is_token).map(Token),
            cache: variable("HF_HUB_CACHE")
                .map(PathBuf::from)
                .or_else(|| Some(home?.join("hub"))),
        }
    }

    /// The page of a repository, for people.
    pub fn page(&self, repository: &str) -> String {
        format!("{}/{repository}", self.endpoint)
    }

    /// What `repository` (`OWNER/NAME`) holds at `revision`, by default at the newest commit of its main branch.
    ///
    /// # Errors
    /// [`Error::Download`] if there is no such repository or no answer; [`Error::Cancelled`].
    pub fn list(
        &self,
        repository: &str,
        revision: Option<&str>,
        progress: &Progress,
    ) -> Result<HubListing> {
        let url = format!(
            "{}/api/models/{repository}/revision/{}",
            self.endpoint,
            revision.unwrap_or("main")
        );
        let answer = ask(Method::Get, &url, self.token.as_ref(), progress)?;
        if answer.status != 200 {
            return Err(self.refused(repository, None, &answer));
        }
        let strange = || {
            let problem =
                "the server's answer is not a listing of a repository; is HF_ENDPOINT right?";
            fail(&Source::Url(url.clone()), problem)
        };
        let listing: Value = serde_json::from_slice(&answer.body).map_err(|_| strange())?;
        let is_commit = |sha: &&str| sha.len() >= 7 && sha.bytes().all(|b| b.is_ascii_hexdigit());
        let commit = listing["sha"]
            .as_str()
            .filter(is_commit)
            .ok_or_else(strange)?;
        let siblings = listing["siblings"].as_array().ok_or_else(strange)?;
        let name = |file: &Value| Some(file["rfilename"].as_str()?.to_owned());
        Ok(HubListing {
            commit: commit.to_owned(),
            files: siblings.iter().filter_map(name).collect(),
            license: license(&listing),
        })
    }

    /// Fetches `file` of `repository` at `commit` to `to`; large files are resumed and checked as [`download`] does.
    /// What other programs fetched of the same commit is copied.
    ///
    /// # Errors
    /// [`Error::Download`] if there is no such file, or this user may not have it; as [`download`].
    pub fn fetch(
        &self,
        repository: &str,
        commit: &str,
        file: &str,
        to: &Path,
        progress: &Progress,
    ) -> Result<HubFile> {
        let (url, head) = self.head(repository, commit, file, progress)?;
        let stated = head.header("x-repo-commit");
        if stated.is_some_and(|stated| stated != commit) {
            return Err(fail(
                &Source::Url(url),
                "the server sends another commit than it lists; try again",
            ));
        }
        let size = head
            .header("x-linked-size")
            .or(head.header("content-length"))
            .and_then(|size| size.parse::<u64>().ok());
        let etag = head.header("x-linked-etag").or(head.header("etag"));
        let etag = etag.map(|etag| {
            etag.trim_start_matches("W/")
                .trim_matches('"')
                .to_lowercase()
        });
        let sha256 =
            etag.filter(|etag| etag.len() == 64 && etag.bytes().all(|b| b.is_ascii_hexdigit()));
        let (Some(sha256), Some(bytes)) = (sha256, size) else {
            return self.fetch_small(url, to, size, progress);
        };
        let wanted = Wanted {
            sha256: &sha256,
            bytes,
            said_by: "the hub",
        };
        let source = match (self.cached(repository, commit, file), &self.token) {
            (Some(path), _) => Source::File(path),
            (None, Some(token)) => Source::Private(url.clone(), token.clone()),
            (None, None) => Source::Url(url.clone()),
        };
        progress.info(format!(
            "{file} ({:.1} MB) from {source}",
            bytes as f64 / 1e6
        ));
        download(&source, wanted, to, progress)?;
        Ok(HubFile {
            bytes,
            sha256: Some(sha256),
            url,
        })
    }

    /// A small file, for which the hub has no SHA-256.
    fn fetch_small(
        &self,
        url: String,
        to: &Path,
        size: Option<u64>,
        progress: &Progress,
    ) -> Result<HubFile> {
        let answer = ask(Method::Get, &url, self.token.as_ref(), progress)?;
        let bytes = answer.body.len() as u64;
        let problem = match (answer.status, size) {
            (200, Some(size)) if size != bytes => {
                format!("the server sends {bytes} bytes of a file that has {size}")
            }
            (200, _) => String::new(),
            (status, _) => format!("the server returned status {status}"),
        };
        if !problem.is_empty() {
            return Err(fail(&Source::Url(url), problem));
        }
        write_atomic(to, &answer.body)?;
        Ok(HubFile {
            bytes,
            sha256: None,
            url,
        })
    }

    /// The headers that the hub itself sends for a file, before it redirects to a store; and the address.
    fn head(
        &self,
        repository: &str,
        commit: &str,
        file: &str,
        progress: &Progress,
    ) -> Result<(String, Answer)> {
        let mut url = format!("{}/{repository}/resolve/{commit}/{file}", self.endpoint);
        for _ in 0..MOST_RENAMES {
            let answer = ask(Method::Head, &url, self.token.as_ref(), progress)?;
            let is_rename = |to: &&str| to.starts_with('/') && !to.starts_with("//");
            match answer.status {
                200 => return Ok((url, answer)),
                300..=399 if answer.header("x-linked-etag").is_some() => return Ok((url, answer)),
                300..=399 => match answer.header("location").filter(is_rename) {
                    Some(location) => url = format!("{}{location}", self.endpoint),
                    None => return Ok((url, answer)),
                },
                _ => return Err(self.refused(repository, Some(file), &answer)),
            }
        }
        Err(fail(
            &Source::Url(url),
            "the server redirects in a circle; is HF_ENDPOINT right?",
        ))
    }

    /// A file that another program fetched of the same commit.
    fn cached(&self, repository: &str, commit: &str, file: &str) -> Option<PathBuf> {
        let folder = format!("models--{}", repository.replace('/', "--"));
        let path = self
            .cache
            .as_ref()?
            .join(folder)
            .join("snapshots")
            .join(commit)
            .join(file);
        path.is_file().then_some(path)
    }

    /// Why the hub does not send what was asked for.
    fn refused(&self, repository: &str, file: Option<&str>, answer: &Answer) -> Error {
        let page = self.page(repository);
        let code = answer.header("x-error-code").unwrap_or_default();
        let has_token = self.token.is_some();
        let problem = match (answer.status, code) {
            (401 | 403, "GatedRepo") | (403, _) if has_token => format!(
                "its authors have not given access to the account of your token; open {page}, accept their terms there, and try again"
            ),
            (401 | 403, "GatedRepo") | (403, _) => format!(
                "its authors give access on request; log in at {page}, accept their terms there, and set HF_TOKEN to a token of that account (from {}/settings/tokens)",
                self.endpoint
            ),
            (401, _) if has_token => "there is no such repository, or your token has no access to it; check the name and HF_TOKEN".into(),
            (401, _) => "there is no such repository, or it is private; check the name, or set HF_TOKEN".into(),
            (404, "RevisionNotFound") => "the repository has no such revision; check what is after the @".into(),
            (404, _) if file.is_some() => format!("the repository has no file {}", file.unwrap_or_default()),
            (404, _) => "there is no such repository; check the name".into(),
            (status, _) => format!("the server returned status {status}"),
        };
        Error::Download {
            from: format!("hf:{repository}"),
            problem,
        }
    }
}

/// The licence in a repository's card, or in its tags.
fn license(listing: &Value) -> Option<String> {
    let card = &listing["cardData"];
    let named = card["license"]
        .as_str()
        .filter(|&license| license != "other");
    let tags = listing["tags"].as_array();
    let tag = tags.and_then(|tags| {
        tags.iter()
            .find_map(|tag| tag.as_str()?.strip_prefix("license:"))
    });
    named
        .or(card["license_name"].as_str())
        .or(card["license"].as_str())
        .or(tag)
        .map(str::to_owned)
}

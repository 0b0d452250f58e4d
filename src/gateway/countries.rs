//! The country behind a payer's address, from a database file in MaxMind's format.
//!
//! The file is read whole into memory, off the runtime, checked, and swapped in at once: nobody sees half a database. It
//! is looked at again every minute and at each reload; one that can't be used is no reason to give up the last good one.
//! Whatever goes wrong with a single address, its country is unknown, never an error; addresses are never logged.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use maxminddb::{PathElement, Reader, WithinOptions};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{FileWork, open_regular, read_within};
use crate::delivery::address::{Reach, reach_of};
use crate::domain::country;
use crate::domain::routing::{Country, CountrySet};
use crate::domain::time::Timestamp;

/// How often the file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// How long a look at the file may take.
const READ_TIMEOUT: Duration = Duration::from_secs(120);
/// Networks that are looked at when a file is checked; those with countries alone have fewer.
const CHECKED_NETWORKS_MAX: usize = 1_000_000;

/// A file that can't be used as the country database.
#[derive(Debug, thiserror::Error)]
#[error(
    "routing.geoip_database: {} {problem}; name a country database in MaxMind's format (.mmdb), such as GeoLite2-Country, \
     or leave the key out", path.display()
)]
pub struct InvalidCountries {
    path: PathBuf,
    problem: String,
}

/// Where a record says the country's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// `country.iso_code`, as in MaxMind's own databases and DB-IP's.
    IsoCode,
    /// `country_code`, as in IPtoASN's and IPinfo's.
    CountryCode,
    /// `country`, as in older ones of IPinfo's.
    Country,
}

impl Layout {
    const ALL: [Self; 3] = [Self::IsoCode, Self::CountryCode, Self::Country];

    fn path(self) -> &'static [PathElement<'static>] {
        match self {
            Self::IsoCode => &[PathElement::Key("country"), PathElement::Key("iso_code")],
            Self::CountryCode => &[PathElement::Key("country_code")],
            Self::Country => &[PathElement::Key("country")],
        }
    }
}

/// A database that was read and checked.
#[derive(Debug)]
struct Database {
    reader: Reader<Vec<u8>>,
    layout: Layout,
    /// The codes that are countries; databases have others too, such as `EU` and `XX`.
    known: CountrySet,
}

impl Database {
    fn from_bytes(bytes: Vec<u8>) -> Result<Self, String> {
        let reader = Reader::from_source(bytes).map_err(|error| format!("is not a database ({error})"))?;
        let known = country::codes().filter_map(|code| code.parse().ok()).collect();
        let layout = layout_of(&reader, &known)?;
        Ok(Self { reader, layout, known })
    }

    fn country_of(&self, address: IpAddr) -> Option<Country> {
        let found = self.reader.lookup(address).ok()?;
        let code: &str = found.decode_path(self.layout.path()).ok()??;
        code.parse().ok().filter(|country| self.known.contains(*country))
    }
}

/// Goes through the networks of a database, which shows that they can be read, and says where it has countries.
fn layout_of(reader: &Reader<Vec<u8>>, known: &CountrySet) -> Result<Layout, String> {
    let damaged = |error: maxminddb::MaxMindDbError| format!("is damaged ({error})");
    let networks = reader.networks(WithinOptions::default().skip_empty_values()).map_err(damaged)?;
    let mut layout = None;
    let mut records = HashSet::new();
    for network in networks.take(CHECKED_NETWORKS_MAX) {
        let network = network.map_err(damaged)?;
        if !records.insert(network.offset()) {
            continue;
        }
        let has_country = |layout: &Layout| {
            let code: Option<&str> = network.decode_path(layout.path()).ok().flatten();
            code.and_then(|code| code.parse().ok()).is_some_and(|country| known.contains(country))
        };
        layout = layout.or_else(|| Layout::ALL.into_iter().find(has_country));
    }
    layout
        .ok_or_else(|| format!("has no countries (it is a database of the type {:?})", reader.metadata().database_type))
}

/// What tells whether a file is another one than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

impl Stamp {
    /// `None` when there is no such file.
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self { modified: metadata.modified().ok(), bytes: metadata.len(), inode: metadata.ino() })
    }
}

/// A database that was read, and from which file.
#[derive(Debug)]
pub(crate) struct Loaded {
    path: PathBuf,
    stamp: Option<Stamp>,
    database: Database,
}

impl Loaded {
    /// Reads and checks a file, off the runtime.
    ///
    /// # Errors
    /// [`InvalidCountries`], with a sentence that says what to do.
    pub(crate) async fn read(path: &Path) -> Result<Self, InvalidCountries> {
        let owned = path.to_owned();
        let read = tokio::task::spawn_blocking(move || read_now(owned)).await;
        read.unwrap_or_else(|error| {
            Err(InvalidCountries { path: path.to_owned(), problem: format!("can't be read ({error})") })
        })
    }
}

fn read_now(path: PathBuf) -> Result<Loaded, InvalidCountries> {
    // Taken before reading: a file that changes meanwhile has another one afterwards, and is read again.
    let stamp = Stamp::of(&path);
    match bytes_of(&path).and_then(Database::from_bytes) {
        Ok(database) => Ok(Loaded { path, stamp, database }),
        Err(problem) => Err(InvalidCountries { path, problem }),
    }
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("can't be read ({error})");
    open_regular(path).and_then(|file| read_within(file, FILE_BYTES_MAX)).map_err(failed)
}

/// Checks the database that a configuration names, without keeping it.
///
/// # Errors
/// [`InvalidCountries`], with a sentence that says what to do.
pub fn check_file(path: &Path) -> Result<(), InvalidCountries> {
    read_now(path.to_owned()).map(|_| ())
}

/// The file as it was last looked at, whether or not it could be used.
#[derive(Debug)]
struct Seen {
    path: PathBuf,
    stamp: Option<Stamp>,
    is_refused: bool,
}

/// The country database of a gateway, if it has one.
#[derive(Debug)]
pub(crate) struct Countries {
    current: ArcSwapOption<Database>,
    /// Held while the file is looked at, so that two looks do not overtake each other.
    seen: tokio::sync::Mutex<Option<Seen>>,
    reading: FileWork,
}

impl Default for Countries {
    fn default() -> Self {
        Self { current: Default::default(), seen: Default::default(), reading: FileWork::new(READ_TIMEOUT) }
    }
}

impl Countries {
    /// With the database in this file, if one is named.
    ///
    /// # Errors
    /// [`InvalidCountries`], with a sentence that says what to do.
    pub(crate) async fn open(path: Option<&Path>) -> Result<Arc<Self>, InvalidCountries> {
        let countries = Arc::new(Self::default());
        if let Some(path) = path {
            countries.put(Some(Loaded::read(path).await?)).await;
        }
        Ok(countries)
    }

    /// Another database from now on, or none.
    pub(crate) async fn put(&self, loaded: Option<Loaded>) {
        let mut seen = self.seen.lock().await;
        match loaded {
            Some(loaded) => {
                *seen = Some(Seen { path: loaded.path.clone(), stamp: loaded.stamp, is_refused: false });
                self.adopt(loaded);
            }
            None => {
                *seen = None;
                self.current.store(None);
            }
        }
    }

    fn adopt(&self, loaded: Loaded) {
        let metadata = loaded.database.reader.metadata();
        let built_at = i64::try_from(metadata.build_epoch).map(|seconds| Timestamp::from_unix_s(seconds).rfc3339());
        tracing::info!(
            path = %loaded.path.display(),
            kind = metadata.database_type,
            built_at = built_at.unwrap_or_default(),
            "the country database is in use"
        );
        self.current.store(Some(Arc::new(loaded.database)));
    }

    /// Reads the file again if it has changed; `is_asked_for`, also if it could not be used when it was read last. One that
    /// can't be used changes nothing, is said once, and is given back.
    pub(crate) async fn look_again(&self, is_asked_for: bool) -> Option<InvalidCountries> {
        let mut seen = self.seen.lock().await;
        let seen = seen.as_mut()?;
        let (path, before) = (seen.path.clone(), seen.stamp);
        let is_again = is_asked_for && seen.is_refused;
        let look = move || {
            let stamp = Stamp::of(&path);
            (is_again || stamp != before).then(|| (stamp, read_now(path)))
        };
        match self.reading.run(look).await {
            Ok(None) => None,
            Ok(Some((_, Ok(loaded)))) => {
                (seen.stamp, seen.is_refused) = (loaded.stamp, false);
                self.adopt(loaded);
                None
            }
            Ok(Some((stamp, Err(problem)))) => {
                (seen.stamp, seen.is_refused) = (stamp, true);
                if stamp != before {
                    tracing::warn!(%problem, "the new country database can't be used; the last good one stays in use");
                }
                Some(problem)
            }
            Err(problem) => {
                tracing::warn!(problem, "the country database could not be looked at");
                Some(InvalidCountries {
                    path: seen.path.clone(),
                    problem: format!("could not be looked at ({problem})"),
                })
            }
        }
    }

    /// The country of a payer's address; `None` when it is not known, or the address is not one of the public internet.
    pub(crate) fn country_of(&self, address: IpAddr) -> Option<Country> {
        let current = self.current.load();
        let database = current.as_ref()?;
        let address = address.to_canonical();
        if reach_of(address, &[]) != Reach::Public {
            return None;
        }
        database.country_of(address)
    }

    /// Looks at the file now and then until the gateway stops.
    pub(crate) fn start(self: &Arc<Self>, tasks: &TaskTracker, stopping: &CancellationToken) {
        let (countries, stopping) = (Arc::clone(self), stopping.clone());
        tasks.spawn(async move {
            let looks = async {
                loop {
                    tokio::time::sleep(LOOK_INTERVAL).await;
                    countries.look_again(false).await;
                }
            };
            stopping.run_until_cancelled(looks).await;
        });
    }
}

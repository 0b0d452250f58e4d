//! Databases of every form that is in use, made here bit by bit, and a real one.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use ipnet::IpNet;

use super::*;
use crate::domain::routing::Country as Code;

/// A value of the format.
#[derive(Clone)]
enum Value {
    Text(&'static str),
    Short(u16),
    Number(u32),
    Long(u64),
    Map(Vec<(&'static str, Value)>),
}

impl Value {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                assert!(text.len() < 29);
                out.push(0x40 | u8::try_from(text.len()).unwrap());
                out.extend(text.as_bytes());
            }
            Self::Short(number) => {
                out.push(0xA0 | 2);
                out.extend(number.to_be_bytes());
            }
            Self::Number(number) => {
                out.push(0xC0 | 4);
                out.extend(number.to_be_bytes());
            }
            Self::Long(number) => {
                out.extend([8, 2]);
                out.extend(number.to_be_bytes());
            }
            Self::Map(entries) => {
                out.push(0xE0 | u8::try_from(entries.len()).unwrap());
                for (name, value) in entries {
                    Self::Text(name).write(out);
                    value.write(out);
                }
            }
        }
    }
}

/// Where a branch of the tree leads.
#[derive(Clone, Copy)]
enum Branch {
    Nowhere,
    Node(usize),
    Data(usize),
}

/// A database of these networks; IPv4 ones lie in `::/96`.
fn database(networks: &[(&str, Value)]) -> Vec<u8> {
    let mut nodes = vec![[Branch::Nowhere; 2]];
    let mut data = Vec::new();
    for (network, value) in networks {
        let network: IpNet = network.parse().unwrap();
        let (address, length) = match network {
            IpNet::V4(v4) => (u128::from(u32::from(v4.addr())), 96 + v4.prefix_len()),
            IpNet::V6(v6) => (u128::from(v6.addr()), v6.prefix_len()),
        };
        let offset = data.len();
        value.write(&mut data);
        let mut node = 0;
        for depth in 0..length {
            let side = usize::from(address >> (127 - depth) & 1 == 1);
            if depth + 1 == length {
                nodes[node][side] = Branch::Data(offset);
            } else if let Branch::Node(next) = nodes[node][side] {
                node = next;
            } else {
                nodes.push([Branch::Nowhere; 2]);
                nodes[node][side] = Branch::Node(nodes.len() - 1);
                node = nodes.len() - 1;
            }
        }
    }
    let mut bytes = Vec::new();
    for branch in nodes.iter().flatten() {
        let record = match branch {
            Branch::Nowhere => nodes.len(),
            Branch::Node(node) => *node,
            Branch::Data(offset) => nodes.len() + 16 + offset,
        };
        bytes.extend(&u32::try_from(record).unwrap().to_be_bytes()[1..]);
    }
    bytes.extend([0; 16]);
    bytes.extend(data);
    bytes.extend(b"\xab\xcd\xefMaxMind.com");
    let metadata = Value::Map(vec![
        ("binary_format_major_version", Value::Short(2)),
        ("binary_format_minor_version", Value::Short(0)),
        ("build_epoch", Value::Long(1_790_000_000)),
        ("database_type", Value::Text("Test-Country")),
        ("description", Value::Map(Vec::new())),
        ("ip_version", Value::Short(6)),
        ("node_count", Value::Number(u32::try_from(nodes.len()).unwrap())),
        ("record_size", Value::Short(24)),
    ]);
    // The list of languages, the only list there is, stands last.
    let mut written = Vec::new();
    metadata.write(&mut written);
    written[0] += 1;
    Value::Text("languages").write(&mut written);
    written.extend([0, 4]);
    bytes.extend(written);
    bytes
}

fn iso_code(code: &'static str) -> Value {
    let country = Value::Map(vec![("geoname_id", Value::Number(6_252_001)), ("iso_code", Value::Text(code))]);
    Value::Map(vec![("continent", Value::Map(vec![("code", Value::Text("NA"))])), ("country", country)])
}

fn flat(field: &'static str, code: &'static str) -> Value {
    Value::Map(vec![(field, Value::Text(code))])
}

fn code(text: &str) -> Option<Code> {
    Some(text.parse().unwrap())
}

struct File {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl File {
    fn new(bytes: &[u8]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("country.mmdb");
        std::fs::write(&path, bytes).unwrap();
        Self { _directory: directory, path }
    }

    /// As an updater does it: beside it, then over it.
    fn replace(&self, bytes: &[u8]) {
        let next = self.path.with_extension("next");
        std::fs::write(&next, bytes).unwrap();
        std::fs::rename(next, &self.path).unwrap();
    }
}

async fn opened(bytes: &[u8]) -> (File, Arc<Countries>) {
    let file = File::new(bytes);
    let countries = Countries::open(Some(&file.path)).await.unwrap();
    (file, countries)
}

fn of(countries: &Countries, address: &str) -> Option<Code> {
    countries.country_of(address.parse().unwrap())
}

#[tokio::test]
async fn each_of_the_three_layouts_is_read() {
    let makers: [fn(&'static str) -> Value; 3] =
        [iso_code, |code| flat("country_code", code), |code| flat("country", code)];
    for make in makers {
        let (_file, countries) = opened(&database(&[
            ("8.8.8.0/24", make("US")),
            ("2a00:1450::/32", make("IE")),
            ("1.2.0.0/16", make("CN")),
        ]))
        .await;
        for (address, country) in [
            ("8.8.8.8", code("US")),
            ("::ffff:8.8.8.8", code("US")),
            ("1.2.3.4", code("CN")),
            ("2a00:1450::1", code("IE")),
            ("8.8.9.8", None),
            ("2a01::1", None),
        ] {
            assert_eq!(of(&countries, address), country, "{address}");
        }
    }
}

#[tokio::test]
async fn what_is_no_country_or_not_public_is_unknown_whatever_the_database_says() {
    let everywhere = ["10.0.0.0/8", "127.0.0.0/8", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"];
    let mut networks = vec![
        ("8.8.8.0/24", iso_code("US")),
        ("9.0.0.0/8", iso_code("EU")),
        ("11.0.0.0/8", iso_code("XX")),
        ("12.0.0.0/8", iso_code("us")),
        ("13.0.0.0/8", Value::Map(vec![("country", Value::Map(vec![("iso_code", Value::Number(7))]))])),
        ("14.0.0.0/8", Value::Map(vec![("registered_country", Value::Map(vec![("iso_code", Value::Text("US"))]))])),
        ("15.0.0.0/8", Value::Text("US")),
    ];
    networks.extend(everywhere.map(|network| (network, iso_code("US"))));
    let (_file, countries) = opened(&database(&networks)).await;
    assert_eq!(of(&countries, "8.8.8.8"), code("US"));
    for address in [
        "9.1.1.1",
        "11.1.1.1",
        "12.1.1.1",
        "13.1.1.1",
        "14.1.1.1",
        "15.1.1.1",
        "10.1.1.1",
        "127.0.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "fc00::1",
        "::1",
        "::ffff:10.1.1.1",
        "0.0.0.0",
        "255.255.255.255",
    ] {
        assert_eq!(of(&countries, address), None, "{address}");
    }
    assert_eq!(of(&Countries::default(), "8.8.8.8"), None, "without a database");
}

#[tokio::test]
async fn a_file_that_is_none_is_refused_with_what_to_do() {
    let whole = database(&[("8.8.8.0/24", iso_code("US"))]);
    let cut = &whole[..whole.len() - 40];
    let mut torn = whole.clone();
    // The tree's first branch leads behind the end.
    torn[..3].copy_from_slice(&[0xFF; 3]);
    for (bytes, problem) in [
        (b"".as_slice(), "is not a database"),
        (b"country,from,to", "is not a database"),
        (cut, "is not a database"),
        (&torn, "is damaged"),
        (&database(&[("8.8.8.0/24", flat("autonomous_system", "x"))]), "has no countries"),
        (&database(&[("8.8.8.0/24", iso_code("EU"))]), "has no countries"),
    ] {
        let file = File::new(bytes);
        let error = Countries::open(Some(&file.path)).await.unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
        assert!(error.contains("routing.geoip_database") && error.contains("country.mmdb"), "{error}");
        assert!(error.contains("name a country database in MaxMind's format"), "{error}");
    }
    let missing = Countries::open(Some(Path::new("/nowhere/country.mmdb"))).await.unwrap_err();
    assert!(missing.to_string().contains("can't be read"), "{missing}");
    // Neither ends: one has nothing to say, the other too much.
    for endless in ["/dev/tty", "/dev/zero", "/"] {
        let refused = Countries::open(Some(Path::new(endless))).await.unwrap_err();
        assert!(refused.to_string().contains("is not a regular file"), "{refused}");
    }
}

/// Every single byte of a file may be wrong: that is an error or an unknown country, never a panic.
#[tokio::test]
async fn no_damage_of_a_file_is_more_than_unknown() {
    let whole = database(&[("8.8.8.0/24", iso_code("US")), ("1.2.0.0/16", iso_code("CN"))]);
    for place in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[place] ^= 0xA5;
        if let Ok(database) = Database::from_bytes(damaged) {
            for address in ["8.8.8.8", "1.2.3.4", "2a00::1"] {
                let _ = database.country_of(address.parse().unwrap());
            }
        }
    }
}

#[tokio::test]
async fn a_new_file_is_taken_up_and_a_broken_one_is_not() {
    let (file, countries) = opened(&database(&[("8.8.8.0/24", iso_code("US"))])).await;
    countries.look_again(false).await;
    assert_eq!(of(&countries, "8.8.8.8"), code("US"));
    file.replace(&database(&[("8.8.8.0/24", iso_code("CA"))]));
    assert_eq!(of(&countries, "8.8.8.8"), code("US"), "nobody has looked yet");
    countries.look_again(false).await;
    assert_eq!(of(&countries, "8.8.8.8"), code("CA"));
    file.replace(b"half a download");
    assert!(countries.look_again(false).await.is_some());
    assert!(countries.look_again(false).await.is_none(), "said once");
    for _ in 0..2 {
        assert!(countries.look_again(true).await.is_some(), "who asks is told each time");
    }
    assert_eq!(of(&countries, "8.8.8.8"), code("CA"));
    std::fs::remove_file(&file.path).unwrap();
    countries.look_again(false).await;
    assert_eq!(of(&countries, "8.8.8.8"), code("CA"));
    std::fs::write(&file.path, database(&[("8.8.8.0/24", iso_code("JP"))])).unwrap();
    countries.look_again(false).await;
    assert_eq!(of(&countries, "8.8.8.8"), code("JP"));
}

#[tokio::test]
async fn a_gateway_looks_at_its_file_every_minute() {
    let file = File::new(&database(&[("8.8.8.0/24", iso_code("US"))]));
    let countries = Countries::open(Some(&file.path)).await.unwrap();
    tokio::time::pause();
    let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
    countries.start(&tasks, &stopping);
    tokio::task::yield_now().await;
    file.replace(&database(&[("8.8.8.0/24", iso_code("CA"))]));
    tokio::time::sleep(LOOK_INTERVAL - Duration::from_secs(1)).await;
    assert_eq!(of(&countries, "8.8.8.8"), code("US"));
    // The file is read by a thread of its own, and the time that stands still meanwhile is the runtime's.
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(of(&countries, "8.8.8.8"), code("CA"));
    stopping.cancel();
    tasks.close();
    tasks.wait().await;
}

fn real_database() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/geoip/iptoasn-country-ipv4.mmdb.gz");
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn a_real_database_says_where_well_known_addresses_are() {
    let (_file, countries) = opened(&real_database()).await;
    for (address, country) in [
        ("8.8.8.8", code("US")),
        ("193.99.144.80", code("DE")),
        ("133.11.0.1", code("JP")),
        ("202.112.0.1", code("CN")),
        ("166.111.4.100", code("CN")),
        ("203.80.96.10", code("HK")),
        ("202.175.3.3", code("MO")),
        // It has IPv4 networks alone.
        ("::ffff:8.8.8.8", code("US")),
        ("2001:4860:4860::8888", None),
        ("10.0.0.1", None),
    ] {
        assert_eq!(of(&countries, address), country, "{address}");
    }
    let database = countries.current.load_full().unwrap();
    let mut networks = BTreeMap::new();
    let all = database.reader.networks(WithinOptions::default().skip_empty_values()).unwrap();
    for (index, network) in all.enumerate() {
        let network = network.unwrap().network().unwrap();
        if index % 101 == 0
            && let Some(country) = countries.country_of(network.ip())
        {
            *networks.entry(country.code().to_owned()).or_insert(0) += 1;
        }
    }
    assert!(networks.len() > 100, "{networks:?}");
    assert!(["US", "CN", "DE", "GB", "JP", "HK"].iter().all(|country| networks.contains_key(*country)), "{networks:?}");
}

//! Tests of `resolver`, in virtual time.

use super::*;
use crate::delivery::name_servers::Asking;
use crate::domain::time::Timestamp;

/// What the name server says: addresses for so many seconds, or nothing ever.
enum Says {
    Has(&'static str, u64),
    NotFound,
    Failed,
    Nothing,
}

#[derive(Clone, Default)]
struct Asked {
    names: Arc<Mutex<Vec<String>>>,
    /// Questions that nobody waits for any more.
    given_up: Arc<AtomicU64>,
}

struct GivenUp(Arc<AtomicU64>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

struct Scripted<F>(F, Asked);

impl<F: Fn(&str, usize) -> Says + Send + Sync + 'static> NameServers for Scripted<F> {
    fn ask(&self, name: &str) -> Asking {
        let number = {
            let mut names = self.1.names.lock();
            names.push(name.to_owned());
            names.len() - 1
        };
        let says = (self.0)(name, number);
        let given_up = GivenUp(Arc::clone(&self.1.given_up));
        Box::pin(async move {
            match says {
                Says::Has(address, ttl_s) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    std::mem::forget(given_up);
                    Ok(Found { addresses: vec![address.parse().unwrap()], ttl: Duration::from_secs(ttl_s) })
                }
                Says::NotFound => {
                    std::mem::forget(given_up);
                    Err(LookUpError::NotFound)
                }
                Says::Failed => {
                    std::mem::forget(given_up);
                    Err(LookUpError::Failed)
                }
                Says::Nothing => {
                    let _given_up = given_up;
                    std::future::pending().await
                }
            }
        })
    }
}

const SETTINGS: ResolverSettings = ResolverSettings {
    timeout: Duration::from_secs(5),
    names_max: 3,
    ttl_max: Duration::from_secs(300),
    negative_ttl: Duration::from_secs(30),
};

fn resolver(
    settings: ResolverSettings,
    script: impl Fn(&str, usize) -> Says + Send + Sync + 'static,
) -> (Arc<Resolver>, Asked) {
    let asked = Asked::default();
    let clock = Clock::virtual_from(Timestamp::from_unix_s(1_700_000_000));
    let hosts = HostsFile::new("/nonexistent/hosts");
    (Resolver::new(settings, clock, hosts, Box::new(Scripted(script, asked.clone()))), asked)
}

async fn address_of(resolver: &Arc<Resolver>, name: &str) -> Result<String, LookUpError> {
    resolver.resolve(name).await.map(|resolved| resolved.addresses[0].to_string())
}

async fn pass(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

fn asked_so_far(asked: &Asked) -> usize {
    asked.names.lock().len()
}

#[tokio::test(start_paused = true)]
async fn an_answer_holds_for_its_time_to_live_and_no_longer() {
    let (resolver, asked) =
        resolver(SETTINGS, |_, number| Says::Has(if number == 0 { "192.0.2.1" } else { "192.0.2.2" }, 10));
    assert_eq!(address_of(&resolver, "shop.example").await.unwrap(), "192.0.2.1");
    pass(9.9).await;
    assert_eq!(address_of(&resolver, "SHOP.example").await.unwrap(), "192.0.2.1");
    assert_eq!(asked_so_far(&asked), 1);
    pass(0.2).await;
    assert_eq!(address_of(&resolver, "shop.example").await.unwrap(), "192.0.2.2");
    let figures = resolver.figures();
    assert_eq!((figures.ok.load(Ordering::SeqCst), figures.cached.load(Ordering::SeqCst)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn very_long_and_very_short_times_are_bounded() {
    let (long, asked) = resolver(SETTINGS, |_, _| Says::Has("192.0.2.1", 86_400));
    address_of(&long, "shop.example").await.unwrap();
    pass(299.0).await;
    address_of(&long, "shop.example").await.unwrap();
    assert_eq!(asked_so_far(&asked), 1);
    pass(2.0).await;
    address_of(&long, "shop.example").await.unwrap();
    assert_eq!(asked_so_far(&asked), 2);
    let (none, asked) = resolver(SETTINGS, |_, _| Says::Has("192.0.2.1", 0));
    address_of(&none, "shop.example").await.unwrap();
    pass(0.9).await;
    address_of(&none, "shop.example").await.unwrap();
    assert_eq!(asked_so_far(&asked), 1);
    pass(0.2).await;
    address_of(&none, "shop.example").await.unwrap();
    assert_eq!(asked_so_far(&asked), 2);
}

#[tokio::test(start_paused = true)]
async fn that_there_is_no_address_is_remembered_for_a_while() {
    let (resolver, asked) = resolver(SETTINGS, |name, number| match (name, number) {
        ("silent.example", _) => Says::Nothing,
        (_, 0) => Says::NotFound,
        _ => Says::Has("192.0.2.1", 60),
    });
    assert_eq!(address_of(&resolver, "new.example").await, Err(LookUpError::NotFound));
    pass(29.0).await;
    assert_eq!(address_of(&resolver, "new.example").await, Err(LookUpError::NotFound));
    pass(2.0).await;
    assert_eq!(address_of(&resolver, "new.example").await.unwrap(), "192.0.2.1");
    assert_eq!(asked_so_far(&asked), 2);
    assert_eq!(address_of(&resolver, "silent.example").await, Err(LookUpError::TimedOut));
    assert_eq!(address_of(&resolver, "silent.example").await, Err(LookUpError::TimedOut));
    assert_eq!(asked_so_far(&asked), 3);
    let figures = resolver.figures();
    assert_eq!((figures.failed.load(Ordering::SeqCst), figures.timed_out.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn that_nobody_could_say_is_remembered_for_less_long() {
    for (says, error) in [(Says::Failed, LookUpError::Failed), (Says::Nothing, LookUpError::TimedOut)] {
        let first = Mutex::new(Some(says));
        let (resolver, asked) =
            resolver(SETTINGS, move |_, _| first.lock().take().unwrap_or(Says::Has("192.0.2.1", 60)));
        for wait_s in [0.0, 9.0] {
            pass(wait_s).await;
            assert_eq!(address_of(&resolver, "shop.example").await, Err(error));
        }
        pass(2.0).await;
        assert_eq!(address_of(&resolver, "shop.example").await.unwrap(), "192.0.2.1");
        assert_eq!(asked_so_far(&asked), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn one_look_up_serves_all_who_wait_for_it_and_outlives_the_first_of_them() {
    let (resolver, asked) = resolver(SETTINGS, |_, _| Says::Has("192.0.2.1", 60));
    let first = tokio::spawn({
        let resolver = Arc::clone(&resolver);
        async move { address_of(&resolver, "shop.example").await }
    });
    let others: Vec<_> = (0..50)
        .map(|_| {
            let resolver = Arc::clone(&resolver);
            tokio::spawn(async move { address_of(&resolver, "shop.example").await })
        })
        .collect();
    pass(0.005).await;
    first.abort();
    for other in others {
        assert_eq!(other.await.unwrap().unwrap(), "192.0.2.1");
    }
    assert_eq!(asked_so_far(&asked), 1);
    assert!(resolver.state.lock().under_way.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_nobody_waits_for_ends_and_gives_its_place_back() {
    let (resolver, asked) =
        resolver(SETTINGS, |_, number| if number == 0 { Says::Nothing } else { Says::Has("192.0.2.1", 60) });
    let waited = tokio::time::timeout(Duration::from_secs(1), address_of(&resolver, "shop.example")).await;
    assert!(waited.is_err());
    assert_eq!(asked.given_up.load(Ordering::SeqCst), 1);
    assert!(resolver.state.lock().under_way.is_empty());
    assert_eq!(resolver.places.available_permits(), UNDER_WAY_MAX);
    assert_eq!(address_of(&resolver, "shop.example").await.unwrap(), "192.0.2.1");
}

#[tokio::test(start_paused = true)]
async fn silent_names_neither_delay_others_nor_take_more_than_their_places() {
    let settings = ResolverSettings { names_max: 10_000, ..SETTINGS };
    let (resolver, asked) =
        resolver(settings, |name, _| if name.starts_with("good") { Says::Has("192.0.2.1", 60) } else { Says::Nothing });
    let mut silent = tokio::task::JoinSet::new();
    let mut look_up = |number: usize| {
        let resolver = Arc::clone(&resolver);
        silent.spawn(async move { address_of(&resolver, &format!("{number}.silent.example")).await });
    };
    (0..UNDER_WAY_MAX - 1).for_each(&mut look_up);
    pass(0.1).await;
    let good = tokio::time::timeout(Duration::from_millis(100), address_of(&resolver, "good.example")).await;
    assert_eq!(good.unwrap().unwrap(), "192.0.2.1");
    (UNDER_WAY_MAX..UNDER_WAY_MAX + 500).for_each(&mut look_up);
    pass(0.1).await;
    assert_eq!(asked_so_far(&asked), UNDER_WAY_MAX + 1, "with the good one, which has its answer");
    while let Some(outcome) = silent.join_next().await {
        assert_eq!(outcome.unwrap(), Err(LookUpError::TimedOut));
    }
    assert_eq!(resolver.places.available_permits(), UNDER_WAY_MAX);
}

#[tokio::test(start_paused = true)]
async fn of_too_many_names_the_one_not_asked_for_the_longest_is_forgotten() {
    let (resolver, asked) = resolver(SETTINGS, |_, _| Says::Has("192.0.2.1", 60));
    for name in ["a.example", "b.example", "c.example", "a.example", "d.example", "a.example"] {
        address_of(&resolver, name).await.unwrap();
    }
    assert_eq!(asked_so_far(&asked), 4);
    address_of(&resolver, "b.example").await.unwrap();
    assert_eq!(asked_so_far(&asked), 5, "b was forgotten");
    let state = resolver.state.lock();
    assert_eq!((state.remembered.by_name.len(), state.remembered.by_use.len()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn the_list_of_hosts_comes_first_and_a_change_of_it_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hosts");
    std::fs::write(&path, "10.0.0.1 Good.Internal\n").unwrap();
    let asked = Asked::default();
    let servers = Box::new(Scripted(|_: &str, _| Says::Has("192.0.2.1", 60), asked.clone()));
    let clock = Clock::virtual_from(Timestamp::from_unix_s(1_700_000_000));
    let resolver = Resolver::new(SETTINGS, clock, HostsFile::new(&path), servers);
    assert_eq!(address_of(&resolver, "good.internal").await.unwrap(), "10.0.0.1");
    assert_eq!(asked_so_far(&asked), 0);
    std::fs::write(&path, "10.0.0.100 good.internal\n").unwrap();
    pass(1.1).await;
    assert_eq!(address_of(&resolver, "good.internal").await.unwrap(), "10.0.0.100");
    assert_eq!(address_of(&resolver, "other.internal").await.unwrap(), "192.0.2.1");
}

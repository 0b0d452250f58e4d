//! Tests of jobs.

use std::time::Duration;

use super::{NOW, after, answered, notification};
use crate::domain::event::EventName;
use crate::domain::ids::{EndpointId, JobId, MerchantId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::{
    Anew, Ending, Failure, JobFilter, JobKind, JobSource, Notification, NotificationStatus, TryResult, WebhookJob,
};

const HOUR: Duration = Duration::from_secs(3_600);
const KINDS: [JobKind; 8] = [
    JobKind::Retry,
    JobKind::Recover,
    JobKind::Cancel,
    JobKind::Sweep,
    JobKind::Park,
    JobKind::Enable,
    JobKind::Purge,
    JobKind::Expire,
];

fn job(kind: JobKind) -> WebhookJob {
    let of_endpoint = (MerchantId::new("m_1"), EndpointId::new("we_1"));
    WebhookJob::of_endpoint(JobId::new("wj_1"), of_endpoint, kind, NOW.plus(HOUR))
}

fn ended(ending: Ending) -> Notification {
    notification().end(ending, NOW).unwrap()
}

fn exhausted() -> Notification {
    let only_one = Notification { max_attempts: 1, ..notification() };
    after(only_one, &answered(500)).notification
}

#[test]
fn each_kind_takes_its_own() {
    let all = [
        ("waiting", notification()),
        ("exhausted", exhausted()),
        ("refused", after(notification(), &answered(404)).notification),
        ("canceled", ended(Ending::Canceled)),
        ("deleted", ended(Ending::EndpointDeleted)),
        ("disabled", ended(Ending::EndpointDisabled)),
        ("expired", ended(Ending::Expired)),
        ("taken", after(notification(), &answered(200)).notification),
    ];
    for kind in KINDS {
        let taken: Vec<&str> = all.iter().filter(|(_, row)| job(kind).takes(row, 5)).map(|(name, _)| *name).collect();
        let expected: &[&str] = match kind {
            JobKind::Retry | JobKind::Recover => &["exhausted", "refused", "disabled"],
            JobKind::Sweep => &["exhausted"],
            JobKind::Enable => &["disabled"],
            JobKind::Cancel | JobKind::Park | JobKind::Purge | JobKind::Expire => &["waiting"],
        };
        assert_eq!(taken, expected, "{kind:?}");
    }
    let filter = JobFilter { failure: Some(Failure::Canceled), ..JobFilter::default() };
    let named = WebhookJob { filter, ..job(JobKind::Retry) };
    let taken: Vec<&str> = all.iter().filter(|(_, row)| named.takes(row, 5)).map(|(name, _)| *name).collect();
    assert_eq!(taken, ["canceled"], "what was ended on purpose is sent again only by name");
    assert_eq!(named.source(), JobSource::All, "which is in no index of dead letters");
}

#[test]
fn enabling_sends_what_was_kept_and_what_was_planned_meanwhile_and_nothing_that_was_disabled_since() {
    let enable = job(JobKind::Enable);
    let after_it = |seconds| enable.created_at.plus(Duration::from_secs(seconds));
    let kept = ended(Ending::EndpointDisabled);
    let planned = |at| Notification { created_at: at, failed_at: Some(at), ..kept.clone() };
    assert!(enable.takes(&kept, 5));
    assert!(enable.takes(&planned(after_it(2)), 5));
    assert!(!enable.takes(&Notification { failed_at: Some(after_it(2)), ..kept.clone() }, 5));
    assert!(!enable.takes(&planned(after_it(60)), 5));
    assert!(!enable.is_settled(after_it(2)));
    assert!(enable.is_settled(after_it(60)));
    assert!(enable.is_settled(NOW), "the clock was ahead when it was made");
}

#[test]
fn a_filter_takes_what_matches_all_of_it() {
    let row = exhausted();
    let filters = [
        (JobFilter::default(), true),
        (JobFilter { status: Some(NotificationStatus::Failed), ..JobFilter::default() }, true),
        (JobFilter { status: Some(NotificationStatus::Success), ..JobFilter::default() }, false),
        (JobFilter { event: Some(EventName::PaymentSuccess), ..JobFilter::default() }, true),
        (JobFilter { event: Some(EventName::RefundSuccess), ..JobFilter::default() }, false),
        (JobFilter { failure: Some(Failure::Refused), ..JobFilter::default() }, false),
        (JobFilter { payment_no: Some(String::from("PY1")), ..JobFilter::default() }, true),
        (JobFilter { payment_no: Some(String::from("PY2")), ..JobFilter::default() }, false),
    ];
    for (filter, expected) in filters {
        let job = WebhookJob { filter: filter.clone(), ..job(JobKind::Retry) };
        assert_eq!(job.takes(&row, 5), expected, "{filter:?}");
    }
    let other = WebhookJob { endpoint_id: Some(EndpointId::new("we_2")), ..job(JobKind::Retry) };
    assert!(!other.takes(&row, 5));
    assert!(WebhookJob { endpoint_id: None, ..job(JobKind::Retry) }.takes(&row, 5));
}

#[test]
fn times_are_about_what_the_kind_is_about() {
    let made_then_failed = |kind, since: Option<Timestamp>, until: Option<Timestamp>| {
        let mut row = exhausted();
        (row.created_at, row.failed_at) = (NOW.minus(HOUR), Some(NOW));
        WebhookJob { since, until, ..job(kind) }.takes(&row, 5)
    };
    let half = Duration::from_secs(1_800);
    for kind in [JobKind::Recover, JobKind::Sweep] {
        assert!(made_then_failed(kind, Some(NOW), None), "{kind:?}");
        assert!(!made_then_failed(kind, None, Some(NOW)), "{kind:?}");
        assert!(made_then_failed(kind, Some(NOW.minus(half)), None), "{kind:?}");
    }
    assert!(!made_then_failed(JobKind::Retry, Some(NOW.minus(half)), None));
    assert!(made_then_failed(JobKind::Retry, Some(NOW.minus(HOUR)), Some(NOW)));
    let waits = |until| WebhookJob { until: Some(until), ..job(JobKind::Expire) }.takes(&notification(), 5);
    assert_eq!((waits(NOW), waits(NOW.plus(half))), (false, true));
}

#[test]
fn what_a_job_has_begun_is_not_begun_by_it_again() {
    let again = exhausted().begin_anew(1, Anew::Recover, NOW.plus(2 * HOUR)).unwrap();
    let mut failed_again = after(again, &answered(500)).notification;
    failed_again.failed_at = Some(NOW.plus(2 * HOUR));
    for kind in [JobKind::Retry, JobKind::Recover, JobKind::Sweep] {
        assert!(!job(kind).takes(&failed_again, 5), "{kind:?}");
    }
}

#[test]
fn a_dead_letter_is_swept_so_often_and_no_more() {
    let mut row = exhausted();
    for sweeps in 0..5 {
        assert!(job(JobKind::Sweep).takes(&row, 5), "{sweeps}");
        row = after(row.begin_anew(1, Anew::Sweep, NOW).unwrap(), &answered(500)).notification;
    }
    assert!(!job(JobKind::Sweep).takes(&row, 5));
    assert!(job(JobKind::Recover).takes(&row, 5), "the merchant may still ask for it");
    assert_eq!(row.given_up_since(), Some(NOW));
}

#[test]
fn what_arrived_after_its_endpoint_was_disabled_has_arrived() {
    let mut kept = ended(Ending::EndpointDisabled);
    kept.note_late_try(&TryResult::default(), NOW);
    assert_eq!((kept.status, kept.failure), (NotificationStatus::Failed, Some(Failure::EndpointDisabled)));
    kept.note_late_try(&answered(204), NOW);
    assert_eq!((kept.status, kept.failure), (NotificationStatus::Success, None));
    assert_eq!((kept.succeeded_at, kept.failed_at, kept.dead_since), (Some(NOW), None, None));
}

#[test]
fn names_read_back() {
    for failure in Failure::ALL {
        assert_eq!(Failure::parse(failure.as_str()), Some(failure));
        assert_eq!(serde_json::to_value(failure).unwrap(), failure.as_str());
    }
    for kind in KINDS {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
    assert_eq!(Failure::parse("sent"), None);
}

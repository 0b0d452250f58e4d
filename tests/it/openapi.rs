//! The OpenAPI document says what the running gateway does: every operation that it has answers with a status that it
//! names and a body of its form, takes the example and the parameters that it shows, and refuses others.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Value, json};

use crate::support::schema::violations;
use crate::support::{Answer, Client, House, nonce};

/// An operation of the document.
#[derive(Clone, Debug)]
struct Operation {
    id: String,
    method: String,
    path: String,
    described: Value,
}

impl Operation {
    fn is_open(&self) -> bool {
        !self.is_merchants() && !self.is_operators()
    }

    fn is_merchants(&self) -> bool {
        self.path.starts_with("/api/v1/")
    }

    fn is_operators(&self) -> bool {
        self.path.starts_with("/admin/v1/") || self.path == "/metrics"
    }

    fn is_probe(&self) -> bool {
        matches!(self.path.as_str(), "/healthz" | "/readyz")
    }

    fn parameters(&self, place: &str) -> Vec<&Value> {
        let all = self.described["parameters"].as_array().into_iter().flatten();
        all.filter(|parameter| parameter["in"] == place).collect()
    }

    fn example(&self) -> Option<&Value> {
        self.described["requestBody"]["content"]["application/json"].get("example")
    }
}

fn operations(document: &Value) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, described) in item.as_object().unwrap() {
            if let Some(id) = described["operationId"].as_str() {
                let (id, method, path) = (id.to_owned(), method.to_uppercase(), path.clone());
                operations.push(Operation { id, method, path, described: described.clone() });
            }
        }
    }
    // Reads before changes before removals, what is inside before what is around it, so that what is asked for is still there.
    let rank = |operation: &Operation| match operation.method.as_str() {
        "GET" => (0, 0),
        "POST" if operation.id != "roll_back_routing" => (1, 0),
        "PUT" | "PATCH" => (2, 0),
        "DELETE" => (3, usize::MAX - operation.path.len()),
        _ => (4, 0),
    };
    operations.sort_by_key(rank);
    operations
}

/// A gateway with a little of everything, its document, and what its objects are called.
struct World {
    house: House,
    shop: Client,
    document: Value,
    numbers: BTreeMap<&'static str, String>,
    /// Other objects, for operations that need one in another state.
    own: BTreeMap<(&'static str, &'static str), String>,
}

impl World {
    async fn start() -> Self {
        let house = House::start().await;
        let shop = house.merchant("premium").await;
        let other = house.merchant("premium").await;
        let text = |answer: &Answer, field: &str| {
            assert!(!answer.data(field).is_empty(), "{field}: {}", answer.text);
            answer.data(field).to_owned()
        };
        let pay = async |number: u32, token: &str| {
            let more = json!({ "method": "card", "payment_token": token, "customer_email": "jane@shop.example" });
            text(&shop.pay(&format!("P-{number}"), 5_000, more).await, "payment_no")
        };
        let (paid, waiting) = (pay(1, "tok_visa").await, pay(2, "tok_3ds").await);
        let mut holds = Vec::new();
        for number in 0..8 {
            let terms = json!({
                "order_no": format!("H-{number}"), "amount": 30_000, "currency": "USD", "channel": "stripe",
                "payment_token": "tok_visa",
            });
            holds.push(shop.post("/api/v1/pre-auths", terms).await.expect(201, "SUCCESS"));
        }
        let hold = |number: usize| text(&holds[number], "pre_auth_no");
        let channel_no = |number: usize| text(&holds[number], "channel_pre_auth_no");
        let post = async |path: String, body: Value| shop.post_with_key(&path, body, &path).await;
        post(format!("/api/v1/pre-auths/{}/capture", hold(0)), json!({})).await.expect(200, "SUCCESS");
        let refund = post(format!("/api/v1/payments/{paid}/refunds"), json!({ "amount": 100 })).await;
        // Nothing listens there.
        let endpoint = post("/api/v1/webhooks/endpoints".to_owned(), json!({ "url": "http://127.0.0.1:1/" })).await;
        let endpoint = text(&endpoint, "id");
        let second = shop.post("/api/v1/webhooks/endpoints", json!({ "url": "http://127.0.0.1:2/" })).await;
        let notification = post(format!("/api/v1/webhooks/endpoints/{endpoint}/test"), json!({})).await;
        let job = post("/api/v1/webhooks/notifications/cancel".to_owned(), json!({ "event": "limit.near" })).await;
        let rule = json!({ "name": "cards", "methods": ["card"], "channels": ["stripe"] });
        let rule = house.admin("POST", "/admin/v1/rules", Some(rule)).await.expect(201, "SUCCESS");
        let erase = format!("/admin/v1/merchants/{}/erasures", other.merchant_id);
        let erasure = house.admin("POST", &erase, Some(json!({ "customer_id": "nobody" }))).await;
        let permit = json!({ "merchant_id": other.merchant_id });
        let permit = house.admin("POST", "/admin/v1/limits/check", Some(permit)).await.expect(200, "SUCCESS");
        let numbers = BTreeMap::from([
            ("payment_no", paid.clone()),
            ("pre_auth_no", hold(0)),
            ("channel_pre_auth_no", channel_no(0)),
            ("refund_no", text(&refund, "refund_no")),
            ("endpoint_id", endpoint),
            ("notification_id", text(&notification, "id")),
            ("job_id", text(&job, "id")),
            ("merchant_id", other.merchant_id.clone()),
            ("key_id", other.key.id.clone()),
            ("erasure_id", text(&erasure, "erasure_id")),
            ("id", text(&rule, "id")),
            ("permit", text(&permit, "permit")),
            ("name", "stripe".to_owned()),
            ("channel", "stripe".to_owned()),
            ("file", "page.css".to_owned()),
            ("from", "2025-01-01".to_owned()),
            ("destination", house.directory.path().join("copies").display().to_string()),
        ]);
        let own = BTreeMap::from([
            (("cancel_payment", "payment_no"), waiting),
            (("capture_pre_auth", "pre_auth_no"), hold(1)),
            (("cancel_pre_auth", "pre_auth_no"), hold(2)),
            (("capture_any_pre_auth", "pre_auth_no"), hold(5)),
            (("cancel_any_pre_auth", "pre_auth_no"), hold(6)),
            (("resolve_pre_auth", "pre_auth_no"), hold(7)),
            (("capture_channel_pre_auth", "channel_pre_auth_no"), channel_no(3)),
            (("cancel_channel_pre_auth", "channel_pre_auth_no"), channel_no(4)),
            (("pause_any_webhook_endpoint", "endpoint_id"), text(&second, "id")),
            (("erase_payment", "merchant_id"), shop.merchant_id.clone()),
            (("erase_pre_auth", "merchant_id"), shop.merchant_id.clone()),
            (("begin_export", "destination"), house.directory.path().join("export").display().to_string()),
        ]);
        let document = house.admin_as("GET", "/openapi.json", None, HashMap::new()).await.body;
        Self { house, shop, document, numbers, own }
    }

    fn number(&self, operation: &Operation, name: &str) -> Option<&String> {
        let own = self.own.iter().find(|((id, field), _)| *id == operation.id && *field == name);
        own.map(|(_, number)| number).or_else(|| self.numbers.get(name))
    }

    /// The operation's path with the numbers of objects that are there.
    fn path(&self, operation: &Operation) -> String {
        let segments = operation.path.split('/').map(|segment| {
            let Some(name) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
                return segment.to_owned();
            };
            self.number(operation, name).unwrap_or_else(|| panic!("{operation:?} needs {name}")).clone()
        });
        segments.collect::<Vec<_>>().join("/")
    }

    /// The same with the parameters that it can't do without.
    fn whole_path(&self, operation: &Operation) -> String {
        let required = operation.parameters("query").into_iter().filter(|parameter| parameter["required"] == true);
        let mut names: Vec<&str> = required.filter_map(|parameter| parameter["name"].as_str()).collect();
        // One of two is needed there.
        if operation.id == "list_any_notifications" {
            names.push("merchant_id");
        }
        let pairs: Vec<String> = names.iter().map(|name| format!("{name}={}", self.numbers[name])).collect();
        let question = if pairs.is_empty() { "" } else { "?" };
        format!("{}{question}{}", self.path(operation), pairs.join("&"))
    }

    /// The operation's example, with numbers of objects that are there.
    fn example(&self, operation: &Operation) -> Option<Value> {
        let mut example = operation.example()?.clone();
        for (name, value) in example.as_object_mut().unwrap() {
            // A merchant's own number is made with the request.
            let is_new = operation.id == "create_channel_pre_auth" || operation.id == "create_merchant";
            if let (false, true, Some(number)) = (is_new, value.is_string(), self.number(operation, name)) {
                *value = json!(number);
            }
        }
        // Rules are called as they like.
        if operation.id.ends_with("_rule") || operation.id.ends_with("_rules") || operation.id == "create_merchant" {
            example = operation.example()?.clone();
        }
        Some(example)
    }

    async fn ask(&self, operation: &Operation, path: &str, body: Option<Value>) -> Answer {
        let method = operation.method.as_str();
        if operation.is_merchants() {
            let key = (method == "POST").then(nonce);
            return self.shop.request(method, path, body.map(|body| body.to_string()), key.as_deref()).await;
        }
        if operation.is_operators() {
            return self.house.admin(method, path, body).await;
        }
        self.shop.send(method, path, body.map(|body| body.to_string()), HashMap::new()).await
    }

    /// What the document says of the answer to this operation with this status.
    fn response<'a>(&'a self, operation: &'a Operation, answer: &Answer) -> &'a Value {
        let status = answer.status.to_string();
        let response = operation.described["responses"].get(&status);
        let response = response.unwrap_or_else(|| panic!("{} answered {status}: {}", operation.id, answer.text));
        match response["$ref"].as_str() {
            Some(target) => self.document.pointer(target.trim_start_matches('#')).unwrap(),
            None => response,
        }
    }

    /// Asserts that an answer is one of those that are documented.
    fn assert_documented(&self, operation: &Operation, answer: &Answer) {
        let response = self.response(operation, answer);
        let content_type = answer.header("content-type").split(';').next().unwrap_or_default().to_owned();
        let content = response["content"].get(&content_type);
        let content = content.unwrap_or_else(|| panic!("{} answered {content_type}", operation.id));
        if content_type == "application/json" {
            let broken = violations(&self.document, &content["schema"], &answer.body);
            assert_eq!(broken, Vec::<String>::new(), "{}: {}", operation.id, answer.text);
        }
        for (name, header) in response["headers"].as_object().unwrap() {
            let sent = answer.header(&name.to_lowercase());
            let is_number = header["schema"]["type"] == "integer";
            assert!(!is_number || sent.is_empty() || sent.parse::<u64>().is_ok(), "{} {name}: {sent}", operation.id);
        }
        // What every HTTP answer may have says nothing about this one.
        const OF_HTTP: [&str; 6] =
            ["connection", "content-length", "content-type", "date", "keep-alive", "transfer-encoding"];
        for name in answer.headers.keys().filter(|name| !OF_HTTP.contains(&name.as_str())) {
            let is_documented =
                response["headers"].as_object().unwrap().keys().any(|known| known.eq_ignore_ascii_case(name));
            assert!(is_documented, "{} does not tell of {name}", operation.id);
        }
        let must_have = |name: &str| {
            assert!(!answer.header(&name.to_lowercase()).is_empty(), "{} has no {name}", operation.id);
            assert!(response["headers"].get(name).is_some(), "{} does not tell of {name}", operation.id);
        };
        must_have("X-Request-Id");
        must_have("Cache-Control");
        if matches!(answer.status, 429 | 503) {
            must_have("Retry-After");
        }
        if answer.status == 401 {
            must_have("WWW-Authenticate");
        }
        if content_type == "text/csv" {
            must_have("Content-Disposition");
        }
        if operation.is_merchants() {
            ["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-RateLimit-Tier", "RateLimit"]
                .into_iter()
                .for_each(must_have);
        }
    }
}

/// What operations answer here that can't succeed, and why.
const ELSEWISE: [(&str, &[u16]); 14] = [
    // Nobody signed it as Stripe does.
    ("receive_callback", &[401]),
    // This gateway was not started from a file.
    ("reload_config", &[404]),
    ("check_config", &[404]),
    // Nor does it own the logs of this process.
    ("get_log_level", &[404]),
    ("change_log_level", &[404]),
    // Nothing was restored.
    ("confirm_hold", &[404]),
    // None of these needs a person.
    ("resolve_payment", &[409]),
    ("resolve_refund", &[409]),
    ("resolve_pre_auth", &[409]),
    // Whether they are at their end already depends on time.
    ("cancel_webhook_job", &[200, 409]),
    ("cancel_any_webhook_job", &[200, 409]),
    ("retry_notification", &[200, 409]),
    ("retry_any_notification", &[200, 409]),
    ("cancel_notification", &[200, 409]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_documented_operation_answers_as_documented() {
    let world = World::start().await;
    for operation in operations(&world.document) {
        let answer = world.ask(&operation, &world.whole_path(&operation), world.example(&operation)).await;
        let elsewise = ELSEWISE.iter().find(|(id, _)| *id == operation.id);
        let is_expected =
            elsewise.map_or((200..300).contains(&answer.status), |(_, known)| known.contains(&answer.status));
        assert!(is_expected, "{} answered {}: {}", operation.id, answer.status, answer.text);
        world.assert_documented(&operation, &answer);
    }
    world.house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parameters_are_taken_if_they_are_documented_and_only_then() {
    let world = World::start().await;
    for operation in operations(&world.document).iter().filter(|operation| operation.method == "GET") {
        let path = world.path(operation);
        let documented: BTreeSet<&str> =
            operation.parameters("query").iter().filter_map(|parameter| parameter["name"].as_str()).collect();
        let all: Vec<String> = documented.iter().map(|name| format!("{name}=1")).collect();
        let answer = world.ask(operation, &format!("{path}?{}", all.join("&")), None).await;
        assert!(!answer.text.contains("is not a parameter"), "{} {}", operation.id, answer.text);
        if operation.is_probe() {
            continue;
        }
        let others = ["nonsense", "limit", "cursor", "status", "from", "merchant_id"];
        for other in others.iter().filter(|other| !documented.contains(*other)) {
            let refused = world.ask(operation, &format!("{path}?{other}=1"), None).await;
            assert_eq!(refused.wrong_fields(), [*other], "{}: {}", operation.id, refused.text);
            world.assert_documented(operation, &refused);
        }
    }
    world.house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_filled_in_that_narrows_a_list() {
    let world = World::start().await;
    let mut lists = 0;
    for operation in operations(&world.document) {
        for parameter in operation.parameters("query") {
            lists += usize::from(parameter["name"] == "cursor");
            // What /docs fills in where somebody only wants to see what is there.
            let filled_in = ["/example", "/schema/example"].iter().find_map(|place| parameter.pointer(place));
            assert!(parameter["required"] == true || filled_in.is_none(), "{}: {parameter}", operation.id);
        }
    }
    assert!(lists > 10, "only {lists} lists");
    world.house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_are_taken_if_they_are_documented_and_only_then() {
    let world = World::start().await;
    let changes = |operation: &&Operation| operation.method != "GET" && !operation.is_open();
    for operation in operations(&world.document).iter().filter(changes) {
        let path = world.path(operation);
        let refused = world.ask(operation, &path, Some(json!({ "nonsense": 1 }))).await;
        let is_told = refused.wrong_fields().iter().any(|field| field.ends_with("nonsense"));
        assert!(refused.status == 400 && is_told, "{} {}: {}", operation.id, refused.status, refused.text);
        world.assert_documented(operation, &refused);
        let schema = &operation.described["requestBody"]["content"]["application/json"]["schema"];
        let schema = schema["$ref"].as_str().and_then(|target| world.document.pointer(target.trim_start_matches('#')));
        for name in
            schema.and_then(|schema| schema["properties"].as_object()).into_iter().flat_map(|fields| fields.keys())
        {
            // A value that no field takes, so that nothing is done.
            let answer = world.ask(operation, &path, Some(json!({ name.as_str(): [{ "nonsense": [] }] }))).await;
            let unknown = format!("\"field\":\"{name}\",\"message\":\"is not a field");
            assert!(
                answer.status == 400 && !answer.text.contains(&unknown),
                "{} {name}: {}",
                operation.id,
                answer.text
            );
        }
    }
    world.house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn examples_are_of_the_form_that_is_asked_for() {
    let house = House::start().await;
    let document = house.admin_as("GET", "/openapi.json", None, HashMap::new()).await.body;
    let mut compared = 0;
    for operation in operations(&document) {
        let body = &operation.described["requestBody"]["content"]["application/json"];
        if !body["schema"].is_null() {
            let example = body.get("example").unwrap_or_else(|| panic!("{} has no example", operation.id));
            assert_eq!(violations(&document, &body["schema"], example), Vec::<String>::new(), "{}", operation.id);
            compared += 1;
        }
        for response in operation.described["responses"].as_object().unwrap().values() {
            let target = response["$ref"].as_str();
            let response = target.map_or(response, |target| document.pointer(&target[1..]).unwrap());
            let content = &response["content"]["application/json"];
            for example in content["examples"].as_object().into_iter().flat_map(|examples| examples.values()) {
                let broken = violations(&document, &content["schema"], &example["value"]);
                assert_eq!(broken, Vec::<String>::new(), "{}: {example}", operation.id);
                compared += 1;
            }
        }
    }
    assert!(compared > 500, "{compared}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_refusal_for_want_of_a_channel_looks_like_its_example() {
    let house = House::start().await;
    let shop = house.merchant_with(json!({ "name": "a shop", "tier": "premium", "channels": ["alipay"] })).await;
    let off = Some(json!({ "enabled": false }));
    house.admin("PATCH", "/admin/v1/channels/alipay", off).await.expect(200, "SUCCESS");
    let refused = shop.pay("P-1", 500, json!({})).await.expect(503, "NO_CHANNEL_AVAILABLE");
    let document = house.admin_as("GET", "/openapi.json", None, HashMap::new()).await.body;
    let content = &document["paths"]["/api/v1/payments"]["post"]["responses"]["503"]["content"]["application/json"];
    let example = &content["examples"]["NO_CHANNEL_AVAILABLE"]["value"];
    assert_eq!(refused.body["message"], example["message"]);
    let find =
        |body: &Value| body["reasons"].as_array().unwrap().iter().find(|one| one["channel"] == "alipay").cloned();
    assert_eq!(find(&refused.body), find(example));
    assert_eq!(violations(&document, &content["schema"], &refused.body), Vec::<String>::new());
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_listener_tells_of_what_it_answers() {
    let house = House::start().await;
    let merchants = house.merchant("starter").await;
    let root = merchants.send("GET", "/", None, HashMap::new()).await.expect(200, "SUCCESS");
    assert_eq!((root.data("docs"), root.data("openapi")), ("/docs", "/openapi.json?part=merchants"));
    let admin_root = house.admin_as("GET", "/", None, HashMap::new()).await.expect(200, "SUCCESS");
    assert_eq!((admin_root.data("docs"), admin_root.data("openapi")), ("/docs", "/openapi.json?part=operator"));
    assert_eq!((admin_root.data("console"), &root.body["data"]["console"]), ("/console", &Value::Null));
    let part = merchants.send("GET", root.data("openapi"), None, HashMap::new()).await.body;
    let admin_part = house.admin_as("GET", admin_root.data("openapi"), None, HashMap::new()).await.body;
    let whole = merchants.send("GET", "/openapi.json", None, HashMap::new()).await.body;
    assert_eq!(whole, house.admin_as("GET", "/openapi.json", None, HashMap::new()).await.body);
    let paths = |document: &Value| document["paths"].as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert!(paths(&part).iter().all(|path| !path.starts_with("/admin") && path != "/metrics"));
    assert!(paths(&admin_part).iter().all(|path| !path.starts_with("/api") && !path.starts_with("/callbacks")));
    assert_eq!(&paths(&part) | &paths(&admin_part), paths(&whole));
    assert!(part["components"]["schemas"].get("MerchantView").is_none(), "nothing is described that nobody gets");
    assert!(part["components"]["schemas"].get("PaymentView").is_some());
    let wrong = merchants.send("GET", "/openapi.json?part=mine", None, HashMap::new()).await;
    assert_eq!(wrong.expect(400, "INVALID_REQUEST").wrong_fields(), ["part"]);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_to_try_it_needs_nothing_from_elsewhere() {
    let house = House::start().await;
    let shop = house.merchant("starter").await;
    for is_admin in [false, true] {
        let get = async |path: &str| match is_admin {
            false => shop.send("GET", path, None, HashMap::new()).await,
            true => house.admin_as("GET", path, None, HashMap::new()).await,
        };
        let page = get("/docs").await;
        assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        let part = if is_admin { "operator" } else { "merchants" };
        assert!(page.text.contains(&format!("data-document=\"openapi.json?part={part}\"")), "{}", page.text);
        let named: Vec<&str> = page.text.split('"').filter(|text| text.starts_with("docs/")).collect();
        assert_eq!(named.len(), 5, "{named:?}");
        for name in named {
            let file = get(&format!("/{name}")).await;
            assert_eq!(file.status, 200, "{name}");
            assert!(file.header("cache-control").contains("immutable"), "{name}");
            assert_eq!(file.header("x-content-type-options"), "nosniff");
        }
        // What the page names is relative, so that it is shown at one address alone.
        let slashed = get("/docs/").await;
        assert_eq!((slashed.status, &slashed.text), (200, &page.text), "a browser is led there");
        get("/docs/../master.key").await.expect(404, "NOT_FOUND");
        get("/docs/swagger-ui.js").await.expect(404, "NOT_FOUND");
    }
    let foreign = HashMap::from([("host".to_owned(), "evil.example".to_owned())]);
    house.admin_as("GET", "/docs", None, foreign).await.expect(403, "FORBIDDEN");
    house.stop().await;
}

//! Clients that have money held, take all of it or a part, let it go, and give back what they took; now and then two of
//! them want different things of the same money at once.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::Answer;
use crate::load::{About, Asked, Meaning, Run};
use crate::payer;

/// Where money is held, in turn.
const CHANNELS: [&str; 3] = ["stripe", "paypal", "alipay"];
/// Every way in which a hold can go; without a token the payer has to act, as with `tok_3ds`.
const TOKENS: [Option<&str>; 11] = [
    Some("tok_visa"),
    None,
    Some("tok_visa"),
    Some("tok_declined"),
    Some("tok_visa"),
    Some("tok_lost_response"),
    Some("tok_3ds"),
    Some("tok_visa"),
    Some("tok_error"),
    None,
    Some("tok_processing"),
];
/// What is taken where only a part is.
const PART: i64 = 4_000;
/// Looks at a hold whose payer has acted, and the time between them.
const LOOKS: usize = 20;
const LOOK_AGAIN_IN: Duration = Duration::from_millis(50);

/// Has money held, again and again, until the process is gone.
pub async fn make(run: Run, number: usize) {
    let client = HoldingClient { run, number };
    let mut index = 0;
    while client.step(index).await.is_some() {
        index += 1;
    }
}

struct HoldingClient {
    run: Run,
    number: usize,
}

impl HoldingClient {
    async fn step(&self, index: usize) -> Option<()> {
        let turn = self.run.life * 5 + self.number * 3 + index;
        let order_no = format!("D-{}-{}-{index}", self.run.life, self.number);
        let asked = self.hold(turn, index, &order_no);
        let is_twin = turn % 7 == 4;
        let (meaning, answer) = match turn % 7 {
            2 => self.run.pair(0, asked, |asked| asked.key.push_str("-rival")).await?,
            4 => self.run.pair(2, asked, |_| {}).await?,
            _ => self.run.ask(&asked).await?,
        };
        assert!(meaning != Meaning::InProgress || is_twin, "nobody else asks for {order_no}: {answer:?}");
        if meaning == Meaning::TurnedAway {
            tokio::time::sleep(LOOK_AGAIN_IN).await;
        }
        if meaning != Meaning::Done {
            return Some(());
        }
        let path = format!("/api/v1/pre-auths/{}", answer.data("pre_auth_no"));
        let mut hold = answer.body["data"].clone();
        if hold["next_action"]["url"].is_string() {
            match turn % 5 {
                0 => {
                    self.run.ask(&release(&path, &order_no)).await?;
                    return Some(());
                }
                1 => payer::act(&self.run.http, &hold, "decline").await,
                _ => {
                    payer::act(&self.run.http, &hold, "approve").await;
                    hold = self.once_held(&path).await?;
                }
            }
        }
        if hold["status"] == "requires_capture" { self.end(turn, index, &path, &order_no).await } else { Some(()) }
    }

    fn hold(&self, turn: usize, index: usize, order_no: &str) -> Asked {
        let channel = CHANNELS[turn % CHANNELS.len()];
        let token = TOKENS[turn % TOKENS.len()];
        // At Alipay that is a code to be scanned: one that nobody has seen is closed by nothing for half an hour.
        let is_code = channel == "alipay" && matches!(token, None | Some("tok_3ds"));
        let mut body = json!({
            "order_no": order_no, "amount": 10_000 + index, "currency": "CNY", "channel": channel,
            "description": format!("Deposit {order_no}"),
            "metadata": { "client": self.number.to_string(), "turn": turn.to_string() },
        });
        if let Some(token) = if is_code { Some("tok_visa") } else { token } {
            body["payment_token"] = json!(token);
        }
        let (path, key) = ("/api/v1/pre-auths".to_owned(), format!("k-{order_no}"));
        Asked { about: About::Hold, path, body, key, has_rival: false }
    }

    /// What a hold looks like once its payer has acted and the channel was asked, or after a second.
    async fn once_held(&self, path: &str) -> Option<Value> {
        let mut hold = self.run.read(path).await?;
        for _ in 0..LOOKS {
            if hold["status"] == "requires_capture" {
                break;
            }
            tokio::time::sleep(LOOK_AGAIN_IN).await;
            hold = self.run.read(path).await?;
        }
        Some(hold)
    }

    /// Takes what is held, or lets it go.
    async fn end(&self, turn: usize, index: usize, path: &str, order_no: &str) -> Option<()> {
        let part = || capture(path, Some(PART), order_no);
        let (_, answer) = match turn / 3 % 6 {
            0 => self.run.ask(&part()).await?,
            1 => self.run.ask(&capture(path, None, order_no)).await?,
            // Two captures with different amounts at once, a capture against a cancellation, and the same one twice.
            2 => {
                let other = |asked: &mut Asked| (asked.body, asked.key) = (json!({}), format!("p-{order_no}-rival"));
                self.run.pair(3, part(), other).await?
            }
            3 => self.run.pair(3, part(), |asked| *asked = release(path, order_no)).await?,
            4 => self.run.pair(2, part(), |_| {}).await?,
            _ => self.run.ask(&release(path, order_no)).await?,
        };
        if answer.data("status") == "captured" {
            self.give_back(index, path, order_no, &answer).await
        } else {
            Some(())
        }
    }

    async fn give_back(&self, index: usize, path: &str, order_no: &str, captured: &Answer) -> Option<()> {
        let taken = captured.body["data"]["captured_amount"].as_i64().unwrap();
        match index % 3 {
            0 => {
                for (number, amount) in [100, 150].into_iter().enumerate() {
                    let asked = self.run.refund(path, taken, amount, format!("r-{number}-{order_no}"));
                    self.run.ask(&asked).await?;
                }
            }
            // All of it back, twice at once.
            1 => {
                let asked = self.run.refund(path, taken, taken, format!("r-{order_no}"));
                self.run.pair(1, asked, |asked| asked.key.push_str("-rival")).await?;
            }
            _ => {}
        }
        Some(())
    }
}

/// The capture of so much, or of all.
pub fn capture(path: &str, amount: Option<i64>, order_no: &str) -> Asked {
    let body = amount.map_or_else(|| json!({}), |amount| json!({ "amount": amount }));
    let (path, key) = (format!("{path}/capture"), format!("p-{order_no}"));
    Asked { about: About::Capture, path, body, key, has_rival: false }
}

fn release(path: &str, order_no: &str) -> Asked {
    let (path, key) = (format!("{path}/cancel"), format!("c-{order_no}"));
    Asked { about: About::Release, path, body: json!({ "reason": "given up" }), key, has_rival: false }
}

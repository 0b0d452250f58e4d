//! What is wrong with a field, in Chinese. Those who check fields say it in English, wherever in the house they are; here
//! their sentences are looked up, as catalogues of translations do. One that is not in the catalogue stays English.

use std::borrow::Cow;

use crate::api::language::Language;

/// Sentences in English and Chinese. Each `{}` stands for the same text on both sides, in the same order. The first that fits
/// is taken, so that a longer one stands before one that is like its beginning.
const CATALOGUE: [(&str, &str); 134] = [
    ("can't be {} as an id; give the rule another `id`", "{} 不可用作规则的 id; 请另取一个 `id`"),
    ("can't stand beside `split`; take one away", "不得与 `split` 同时使用; 请去掉其一"),
    ("goes with `from` and `until`, or `weekdays`", "须与 `from` 和 `until` 或 `weekdays` 一起使用"),
    (
        "has \"{}\", which is not an ISO 3166-1 alpha-2 code in capitals such as DE",
        "其中 \"{}\" 不是大写的 ISO 3166-1 二字母国家代码 (如 DE)",
    ),
    ("has an entry that matches no event; events are {}", "其中有一项不匹配任何事件; 事件有 {}"),
    ("has `{}`, which is not one of its fields", "其中 `{}` 不是它的字段"),
    ("is missing: `from` goes with it", "缺失: 须与 `from` 一起提供"),
    ("is missing: `until` goes with it", "缺失: 须与 `until` 一起提供"),
    (
        "is not a filter such as \"info\" or \"info,tollgate::delivery=debug\": {} is no level (off, error, warn, info, debug, trace)",
        "不是有效的过滤器 (如 \"info\" 或 \"info,tollgate::delivery=debug\"): {} 不是级别 (off, error, warn, info, debug, trace)",
    ),
    (
        "is not a filter such as \"info\" or \"info,tollgate::delivery=debug\": {}",
        "不是有效的过滤器 (如 \"info\" 或 \"info,tollgate::delivery=debug\"): {}",
    ),
    ("is the id of an earlier rule; give it its own", "与前面某条规则的 id 相同; 请另取一个"),
    ("is the name of an earlier rule; give it its own", "与前面某条规则的名称相同; 请另取一个"),
    ("lacks `{}`", "缺少 `{}`"),
    ("must be 1 to 64 characters from A-Za-z0-9_-", "须为 1 到 64 个字符, 可用 A-Za-z0-9_-"),
    (
        "must be a filter such as \"info\" or \"info,tollgate::delivery=debug\", of 1 to {} characters",
        "须为过滤器 (如 \"info\" 或 \"info,tollgate::delivery=debug\"), 长度为 1 到 {} 个字符",
    ),
    (
        "must be another time than `from`; 00:00 until 24:00 is the whole day",
        "不得与 `from` 相同; 全天为 00:00 到 24:00",
    ),
    ("must be at least 1; to stop payments set enabled = false", "至少为 1; 若要停止支付, 请设 enabled = false"),
    ("must be at least amount_minor_min ({})", "不得小于 amount_minor_min ({})"),
    ("must be between {} and {}", "须在 {} 到 {} 之间"),
    ("must be from {} to {}, not {}", "须在 {} 到 {} 之间, 而不是 {}"),
    (
        "must be said: at least one of endpoint_id, event, status, payment_no, failure, from and to",
        "须提供以下至少一项: endpoint_id, event, status, payment_no, failure, from, to",
    ),
    ("must be a string that is one of its documented values", "须为字符串, 且为文档所列的值之一"),
    ("must have a value, or not be there", "须有值, 或不出现"),
    ("must have at most 20 names", "最多 20 个名称"),
    ("must have entries of 1 to 64 characters", "每一项须为 1 到 64 个字符"),
    (
        "must have names of 1 to 40 characters, and at most {} values of up to 500 characters",
        "名称须为 1 到 40 个字符, 值最多 {} 个, 每个不超过 500 个字符",
    ),
    ("must have shares that add up to 100 percent, not {}", "各份额之和须为 100%, 而不是 {}"),
    ("must name at least one channel", "须至少列出一个渠道"),
    ("must not be an object", "不得为对象"),
    ("must not be negative", "不得为负数"),
    ("names \"{}\" twice", "重复列出了 \"{}\""),
    (
        "names a channel that is not enabled; enable it, or name another first (`tollgate routing set --default-channel NAME`)",
        "所指的渠道未启用; 请启用它, 或先改用其他渠道 (`tollgate routing set --default-channel NAME`)",
    ),
    ("names no channel with \"{}\"", "没有名为 \"{}\" 的渠道"),
    ("names no channel; name one of [channels.<name>]", "所指的渠道不存在; 请使用 [channels.<name>] 之一"),
    ("names no tier with \"{}\"", "没有名为 \"{}\" 的等级"),
    (
        "needs `currencies`: minor units of different currencies can't be compared",
        "需要同时给出 `currencies`: 不同货币的最小单位无法比较",
    ),
    ("not a time of day such as 09:30", "不是 09:30 这样的时刻"),
    ("not an ISO 3166-1 alpha-2 country code in capitals, such as US", "不是大写的 ISO 3166-1 二字母国家代码, 如 US"),
    ("must be the code of a currency, such as USD", "须为货币代码, 如 USD"),
    ("not an ISO 4217 currency code in capitals, such as USD", "不是大写的 ISO 4217 货币代码, 如 USD"),
    ("the configuration file {} can't be used: {}", "配置文件 {} 无法使用: {}"),
    (
        "was made before the gateway was restored from a backup: begin anew without one, and pass over the ids that you know",
        "是在网关从备份恢复之前给出的: 请不带游标重新开始, 并跳过您已知的 id",
    ),
    (
        "{} is not a time zone that this machine knows (such as Europe/Berlin; tzdata must be installed)",
        "{} 不是本机所认识的时区 (例如 Europe/Berlin; 须已安装 tzdata)",
    ),
    ("can't be changed; make another rule", "不可修改; 请新建一条规则"),
    ("can't stand beside `position`", "不得与 `position` 同时使用"),
    ("can't stand beside `rules`", "不得与 `rules` 同时使用"),
    ("did not arrive completely", "未完整到达"),
    ("give either this or customer_id", "请提供此字段或 customer_id 二者之一"),
    ("goes with verify=true only", "仅可与 verify=true 同时使用"),
    ("is a sandbox token, which live mode does not take", "是沙箱令牌, 生产模式不接受"),
    ("is missing", "缺失"),
    ("is missing; a JSON object is expected", "缺失; 应为 JSON 对象"),
    ("is not a cursor of this list", "不是此列表的游标"),
    ("is not a field of this request", "不是此请求的字段"),
    ("is not a parameter of this request", "不是此请求的参数"),
    ("is not that of the pre-auth", "与该预授权的不一致"),
    ("is not valid JSON at line {} column {}: {}", "在第 {} 行第 {} 列不是有效的 JSON: {}"),
    ("is of no kind that the payment's channels know", "不是该支付可用渠道所认识的类型"),
    ("is only for an endpoint that is disabled and is set to enabled", "仅适用于已被禁用且正要启用的端点"),
    ("is only for what is held", "仅适用于资金仍被冻结的情形"),
    ("is only for what was captured", "仅适用于已请款的情形"),
    ("is required here, so that sending the request again is safe", "在此为必填, 以确保可以安全地重复发送请求"),
    ("is there twice", "重复出现"),
    ("must be 1 to 255 visible ASCII characters", "须为 1 到 255 个可见 ASCII 字符"),
    ("must be 1 to 32 characters from a-z 0-9 _", "须为 1 到 32 个字符, 可用 a-z 0-9 _"),
    ("must be 1 to 64 characters from A-Z a-z 0-9 _ -", "须为 1 到 64 个字符, 可用 A-Z a-z 0-9 _ -"),
    ("must be 1 to 64 characters from A-Z a-z 0-9 _ - .", "须为 1 到 64 个字符, 可用 A-Z a-z 0-9 _ - ."),
    ("must be a JSON object", "须为 JSON 对象"),
    ("must be a boolean", "须为 true 或 false"),
    ("must be a day such as 2026-01-31, or RFC 3339", "须为日期 (如 2026-01-31) 或 RFC 3339 时间"),
    ("must be a list", "须为列表"),
    ("must be a number", "须为数字"),
    (
        "must be a number, a colon and 64 hexadecimal digits, such as 17:9f86…",
        "须为数字, 冒号和 64 位十六进制数, 如 17:9f86…",
    ),
    ("must be a small whole number, not negative", "须为不太大的非负整数"),
    ("must be a string", "须为字符串"),
    ("must be a whole number", "须为整数"),
    ("must be a whole number from 0 to 4294967295", "须为 0 到 4294967295 的整数"),
    ("must be a whole number from 1 to {}", "须为 1 到 {} 的整数"),
    ("must be a whole number of minor units", "须为最小货币单位的整数"),
    ("must be a whole number, not negative", "须为非负整数"),
    ("must be all that is held: the channel takes no part of it", "须为全部冻结金额: 该渠道不支持部分请款"),
    ("must be an IPv4 or IPv6 address", "须为 IPv4 或 IPv6 地址"),
    ("must be an ISO 3166-1 alpha-2 code in capitals, such as US", "须为大写的 ISO 3166-1 二字母国家代码, 如 US"),
    ("must be an ISO 4217 code in capitals, such as USD", "须为大写的 ISO 4217 货币代码, 如 USD"),
    ("must be an RFC 3339 time, such as 2025-01-24T10:30:45Z", "须为 RFC 3339 时间, 如 2025-01-24T10:30:45Z"),
    ("must be an absolute path on the gateway's machine", "须为网关所在机器上的绝对路径"),
    (
        "must be an amount with at most the currency's decimals, such as 12.30",
        "须为金额, 小数位数不得超过该货币的位数, 如 12.30",
    ),
    ("must be an e-mail address of at most 254 characters", "须为不超过 254 个字符的电子邮件地址"),
    ("must be an http or https URL of at most 2048 characters", "须为不超过 2048 个字符的 http 或 https URL"),
    ("must be an object", "须为对象"),
    ("must be at least 1 minor unit", "至少为 1 个最小货币单位"),
    (
        "must be at most {}: this merchant's limits never admit more at once",
        "不得超过 {}: 该商户的限额一次最多放行这么多",
    ),
    ("must be at most {} days before `to`", "最早为 `to` 之前 {} 天"),
    (
        "must be at least per_second ({}); equal to it for a strict limit by the second",
        "不得小于 per_second ({}); 若需严格按秒限制, 请设为相等",
    ),
    ("must be at most {}", "不得超过 {}"),
    ("must be day or channel", "须为 day 或 channel"),
    ("must be enabled, paused or disabled", "须为 enabled, paused 或 disabled"),
    ("must be failed: only what was given up is sent again", "须为 failed: 只有已放弃的通知才能重新发送"),
    ("must be from 1 to {}: the API's rules stand first", "须在 1 到 {} 之间: 通过 API 创建的规则排在最前"),
    ("must be from {} to {}", "须在 {} 到 {} 之间"),
    ("must be given, or endpoint_id", "此字段与 endpoint_id 须提供其一"),
    ("must be given", "须提供"),
    ("must be healthy, failing, open or unknown", "须为 healthy, failing, open 或 unknown"),
    ("must be the version that was looked at; load the page again", "须为所查看的版本; 请重新加载页面"),
    ("name none that is still to be sent again", "其中没有仍需重新发送的通知"),
    ("must be true or left out", "须为 true 或不提供"),
    ("must be merchants or operator", "须为 merchants 或 operator"),
    ("must be one of {}", "须为以下之一: {}"),
    (
        "must be pending or retrying: only what is on its way ends",
        "须为 pending 或 retrying: 只有正在发送的通知才能取消",
    ),
    ("needs a filter; without one what the configuration says stays", "需要同时给出 filter; 否则保持配置中的值"),
    ("must name 1 to {} notifications", "须列出 1 到 {} 条通知"),
    ("must be sent once, 1 to {} visible ASCII characters", "须恰好发送一次, 长度为 1 到 {} 个可见 ASCII 字符"),
    ("must be the name of a channel", "须为渠道名称"),
    ("must be true or false", "须为 true 或 false"),
    ("must be sent as application/x-www-form-urlencoded", "须以 application/x-www-form-urlencoded 发送"),
    ("must have 1 to {} bytes", "长度须为 1 到 {} 字节"),
    ("must have 1 to {} characters", "长度须为 1 到 {} 个字符"),
    ("must have at most 255 characters and no control characters", "不得超过 255 个字符, 且不得含控制字符"),
    ("must have at most {} characters", "不得超过 {} 个字符"),
    ("must have at most {} entries", "不得超过 {} 项"),
    ("must have entries from 0 to {}", "每一项须在 0 到 {} 之间"),
    ("must have from 1 to {} entries", "须有 1 到 {} 项"),
    ("must not be before `from`", "不得早于 `from`"),
    ("must not be given: only what is on its way ends", "不得提供: 只有正在发送的通知才能取消"),
    ("must not be in the future", "不得晚于当前时间"),
    ("must say how many minor units were taken, at least 1", "须说明实际扣款金额 (最小货币单位), 至少为 1"),
    ("must say how that was found out", "须说明依据"),
    ("keys must have 1 to 40 characters, values at most 500", "键须为 1 到 40 个字符, 值不得超过 500 个字符"),
    ("names none of the rules made through the API", "不是通过 API 创建的规则"),
    ("or `id` is that of another rule; give it its own", "或 `id` 已属于另一条规则; 请另取一个"),
    ("there is no channel {}", "没有渠道 {}"),
    ("there is no such channel", "没有此渠道"),
    (
        "was not sent by a page of this session; go back, load the page again and try once more",
        "不是由本会话的页面提交; 请返回, 重新加载页面后再试",
    ),
    ("this list has one page", "此列表只有一页"),
];

/// `message` in `language`.
pub(crate) fn in_language(message: &str, language: Language) -> Cow<'_, str> {
    match language {
        Language::English => Cow::Borrowed(message),
        Language::Chinese => in_chinese(message).or_else(|| behind_a_place(message)).map_or(message.into(), Cow::Owned),
    }
}

fn in_chinese(message: &str) -> Option<String> {
    let known = CATALOGUE.iter().find_map(|(english, chinese)| Some(fill(chinese, &gaps(english, message)?)));
    known.or_else(|| choice(message))
}

/// ``must be `a` or `b` ``, as those who read JSON put it where there are few names.
fn choice(message: &str) -> Option<String> {
    let (names, last) = message.strip_prefix("must be ")?.split_once(" or ")?;
    let is_name = |name: &str| {
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '`' | '_' | '-' | '.');
        !name.is_empty() && name.chars().all(is_part)
    };
    (names.split(", ").all(is_name) && is_name(last)).then(|| format!("须为 {names} 或 {last}"))
}

/// A sentence with the place in front that it is about, such as `routing.default_channel names …` or `from: not …`.
fn behind_a_place(message: &str) -> Option<String> {
    let (place, sentence) = message.split_once(' ')?;
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.' | '[' | ']' | ':');
    let is_place = place.chars().all(is_part) && place.contains(['_', '.', '[', ':']);
    if is_place { Some(format!("{place} {}", in_chinese(sentence)?)) } else { None }
}

/// What stands in the gaps of `pattern` if `text` is made by it.
fn gaps<'a>(pattern: &str, text: &'a str) -> Option<Vec<&'a str>> {
    let mut parts = pattern.split("{}");
    let mut rest = text.strip_prefix(parts.next()?)?;
    let mut found = Vec::new();
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        let end = if parts.peek().is_none() {
            // The last one reaches to the end of the text.
            rest.strip_suffix(part)?.len()
        } else {
            rest.find(part)?
        };
        found.push(&rest[..end]);
        rest = &rest[end + part.len()..];
    }
    rest.is_empty().then_some(found)
}

fn fill(pattern: &str, gaps: &[&str]) -> String {
    let mut gaps = gaps.iter();
    let mut filled = String::new();
    for (index, part) in pattern.split("{}").enumerate() {
        if index > 0 {
            filled.push_str(gaps.next().copied().unwrap_or_default());
        }
        filled.push_str(part);
    }
    filled
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    /// What is said to the operator alone about the machine that the gateway runs on.
    const ENGLISH_ONLY: [&str; 1] = ["an emulator's socket: {}"];

    fn chinese(message: &str) -> String {
        in_language(message, Language::Chinese).into_owned()
    }

    #[test]
    fn gaps_are_carried_over() {
        assert_eq!(chinese("must be from 1 to 13"), "须在 1 到 13 之间");
        assert_eq!(chinese("must be at most 5"), "不得超过 5");
        assert_eq!(
            chinese("is not valid JSON at line 3 column 7: expected value"),
            "在第 3 行第 7 列不是有效的 JSON: expected value"
        );
        assert_eq!(chinese("must be one of a, b"), "须为以下之一: a, b");
        assert_eq!(in_language("must be from 1 to 13", Language::English), "must be from 1 to 13");
        assert_eq!(chinese("nobody says this"), "nobody says this");
        // A gap does not swallow what comes after it.
        assert_eq!(chinese("must be from 1 to 13 or so"), "须在 1 到 13 or so 之间");
        assert_eq!(chinese("must be true or false or both"), "must be true or false or both");
        assert_eq!(chinese("must be from 1 to 13, not 14"), "须在 1 到 13 之间, 而不是 14");
    }

    #[test]
    fn names_to_choose_from_and_places_in_front_are_carried_over() {
        for (english, expected) in [
            ("must be `a_1` or `b`", "须为 `a_1` 或 `b`"),
            ("must be pending, retrying, success or failed", "须为 pending, retrying, success 或 failed"),
            ("must be one thing or another", "must be one thing or another"),
            ("split[0].percent: must be a number", "split[0].percent: 须为数字"),
            ("routing.default_channel must be a string", "routing.default_channel 须为字符串"),
            ("whoever must be a string", "whoever must be a string"),
        ] {
            assert_eq!(chinese(english), expected);
        }
    }

    #[test]
    fn each_pair_has_the_same_gaps_and_the_second_is_chinese() {
        for (english, chinese) in CATALOGUE {
            assert_eq!(english.matches("{}").count(), chinese.matches("{}").count(), "{english}");
            assert!(chinese.chars().any(|letter| ('\u{4e00}'..='\u{9fff}').contains(&letter)), "{english}");
        }
    }

    /// Every sentence that is written where a field is refused.
    fn sentences_in(source: &str) -> Vec<String> {
        let source = source.split("#[cfg(test)]").next().unwrap_or_default();
        let mut sentences = Vec::new();
        for call in ["FieldError::new(", "::field(", " check(", "findings.require(", "findings.add("] {
            for (start, _) in source.match_indices(call) {
                let rest = &source[start + call.len()..];
                let statement = &rest[..rest.find(";\n").unwrap_or(rest.len())];
                let statement = statement.replace("\\\"", "\u{1}");
                let literals = statement.split('"').skip(1).step_by(2).map(|literal| literal.replace('\u{1}', "\""));
                sentences.extend(literals.map(|text| without_names(&text)).filter(|text| text.contains(' ')));
            }
        }
        sentences
    }

    /// `{name}` becomes `{}`.
    fn without_names(literal: &str) -> String {
        let mut text = String::new();
        let mut is_in_gap = false;
        for letter in literal.chars() {
            match letter {
                '{' => is_in_gap = true,
                '}' => {
                    is_in_gap = false;
                    text.push_str("{}");
                }
                _ if is_in_gap => {}
                _ => text.push(letter),
            }
        }
        text
    }

    fn sources() -> Vec<PathBuf> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut folders = vec![root.join("api"), root.join("gateway")];
        // Rules are also made through the API.
        let mut files = vec![root.join("config/validate/rules.rs")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                    files.push(path);
                }
            }
        }
        files
    }

    #[test]
    fn every_sentence_about_a_field_is_in_the_catalogue() {
        let mut found = 0;
        let mut missing = Vec::new();
        for path in sources() {
            for sentence in sentences_in(&std::fs::read_to_string(&path).unwrap()) {
                found += 1;
                let is_known = ENGLISH_ONLY.contains(&sentence.as_str())
                    || CATALOGUE.iter().any(|(english, _)| gaps(english, &without_places(&sentence)).is_some());
                if !is_known && !is_part(&sentence) {
                    missing.push(format!("{}: {sentence}", path.display()));
                }
            }
        }
        assert!(found > 60, "only {found} sentences were found");
        assert!(missing.is_empty(), "no Chinese for:\n{}", missing.join("\n"));
    }

    /// The place in a JSON text is put together by its own.
    fn without_places(sentence: &str) -> String {
        sentence.replace("JSON at {}: {}", "JSON at line {} column {}: {}")
    }

    /// What is only put into a gap of another sentence.
    fn is_part(sentence: &str) -> bool {
        sentence == ", " || sentence == "must be {}" || sentence.starts_with("line {}")
    }
}

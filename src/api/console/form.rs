//! Forms, filters, buttons, and the way from one page of a list to the next. All of it works without scripts.

use askama::Template;
use askama::filters::HtmlSafe;
use url::form_urlencoded;

/// How a field is filled in.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A line; its type, such as `text`, `search`, `number` or `datetime-local` (in UTC).
    Line(&'static str),
    /// One of these: what is sent, and what is shown.
    OneOf(Vec<(String, String)>),
    /// Yes or no; sent as `true`.
    Check,
    /// Not shown.
    Hidden,
}

/// A field of a form.
#[derive(Clone, Debug)]
pub(super) struct Field {
    name: &'static str,
    label: String,
    value: String,
    kind: Kind,
    hint: String,
    is_required: bool,
}

impl Field {
    /// A line of text.
    pub(super) fn line(name: &'static str, label: impl Into<String>) -> Self {
        Self {
            name,
            label: label.into(),
            value: String::new(),
            kind: Kind::Line("text"),
            hint: String::new(),
            is_required: false,
        }
    }

    /// A line of another type.
    pub(super) fn typed(name: &'static str, label: impl Into<String>, kind: &'static str) -> Self {
        Self { kind: Kind::Line(kind), ..Self::line(name, label) }
    }

    /// A point in time, in UTC; read it with [`super::text::sent_moment`].
    pub(super) fn moment(name: &'static str, label: impl Into<String>) -> Self {
        Self::typed(name, label, "datetime-local")
    }

    /// One of `choices`: what is sent, and what is shown.
    pub(super) fn one_of<S: Into<String>, L: Into<String>>(
        name: &'static str,
        label: impl Into<String>,
        choices: impl IntoIterator<Item = (S, L)>,
    ) -> Self {
        let choices = choices.into_iter().map(|(sent, shown)| (sent.into(), shown.into())).collect();
        Self { kind: Kind::OneOf(choices), ..Self::line(name, label) }
    }

    /// Yes or no.
    pub(super) fn check(name: &'static str, label: impl Into<String>) -> Self {
        Self { kind: Kind::Check, ..Self::line(name, label) }
    }

    /// Sent, and not shown.
    pub(super) fn hidden(name: &'static str, value: impl Into<String>) -> Self {
        Self { kind: Kind::Hidden, value: value.into(), ..Self::line(name, "") }
    }

    /// Filled in with this, if it is something.
    #[must_use]
    pub(super) fn value(mut self, value: Option<impl Into<String>>) -> Self {
        self.value = value.map(Into::into).unwrap_or_default();
        self
    }

    /// With a sentence below it.
    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// It must be filled in.
    #[must_use]
    pub(super) fn required(mut self) -> Self {
        self.is_required = true;
        self
    }

    fn is_chosen(&self, sent: &str) -> bool {
        self.value == sent
    }
}

/// A form. One that changes something carries the session's token.
#[derive(Clone, Debug, Template)]
#[template(path = "form.html")]
pub(super) struct Form {
    action: String,
    /// Of the session; none for a form that only asks.
    csrf: Option<String>,
    fields: Vec<Field>,
    submit: String,
    class: &'static str,
    is_dangerous: bool,
    /// Where one goes who does not want it.
    cancel: Option<String>,
}

impl HtmlSafe for Form {}

impl Form {
    /// A form that changes something. `csrf` is the session's.
    pub(super) fn post(action: impl Into<String>, csrf: &str, submit: impl Into<String>) -> Self {
        Self {
            action: action.into(),
            csrf: Some(String::from(csrf)),
            fields: Vec::new(),
            submit: submit.into(),
            class: "form",
            is_dangerous: false,
            cancel: None,
        }
    }

    /// A form that asks for the same page with other values, shown as one row above a list.
    pub(super) fn filter(action: impl Into<String>) -> Self {
        Self { csrf: None, class: "form filter", ..Self::post(action, "", "Filter") }
    }

    /// A form that asks.
    pub(super) fn ask(action: impl Into<String>, submit: impl Into<String>) -> Self {
        Self { csrf: None, ..Self::post(action, "", submit) }
    }

    /// With one more field.
    #[must_use]
    pub(super) fn with(mut self, field: Field) -> Self {
        self.fields.push(field);
        self
    }

    /// What it does can't be undone.
    #[must_use]
    pub(super) fn dangerous(mut self) -> Self {
        self.is_dangerous = true;
        self
    }

    /// With another word on what sends it.
    #[must_use]
    pub(super) fn submit(mut self, submit: impl Into<String>) -> Self {
        self.submit = submit.into();
        self
    }

    /// With a way back.
    #[must_use]
    pub(super) fn cancel(mut self, href: impl Into<String>) -> Self {
        self.cancel = Some(href.into());
        self
    }
}

/// Something to press, which leads to another page.
#[derive(Clone, Debug, Template)]
#[template(path = "button.html")]
pub(super) struct Button {
    text: String,
    href: String,
    is_dangerous: bool,
}

impl HtmlSafe for Button {}

impl Button {
    /// Leads to a page, such as the one that asks whether something is really to be done.
    pub(super) fn link(text: impl Into<String>, href: impl Into<String>) -> Self {
        Self { text: text.into(), href: href.into(), is_dangerous: false }
    }

    /// What it leads to can't be undone.
    #[must_use]
    pub(super) fn dangerous(mut self) -> Self {
        self.is_dangerous = true;
        self
    }
}

/// The way from one page of a list to the next.
#[derive(Clone, Debug, Template)]
#[template(path = "pager.html")]
pub(super) struct Pager {
    first: Option<String>,
    next: Option<String>,
    /// What was looked through, where that is not what the page could have shown.
    partly: Option<String>,
}

impl HtmlSafe for Pager {}

impl Pager {
    /// For the list at `path`, asked for with `query`, that goes on at `next_cursor`. The filters stay.
    pub(super) fn new(path: &str, query: Option<&str>, next_cursor: Option<&str>) -> Self {
        let pairs = || form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        let with = |cursor: Option<&str>| {
            let mut made = form_urlencoded::Serializer::new(String::new());
            made.extend_pairs(pairs().filter(|(name, value)| name != "cursor" && !value.is_empty()));
            made.extend_pairs(cursor.map(|cursor| ("cursor", cursor)));
            let made = made.finish();
            if made.is_empty() { String::from(path) } else { format!("{path}?{made}") }
        };
        let is_first = !pairs().any(|(name, value)| name == "cursor" && !value.is_empty());
        let next = next_cursor.map(|cursor| with(Some(cursor)));
        Self { first: (!is_first).then(|| with(None)), next, partly: None }
    }

    /// Of a list that was looked through in part, as `words` say.
    #[must_use]
    pub(super) fn partly(mut self, words: String) -> Self {
        self.partly = Some(words);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = r#""><script>alert(1)</script>"#;

    #[test]
    fn fields_hold_what_they_are_given_as_text() {
        let form = Form::post(EVIL, EVIL, EVIL)
            .with(Field::line("a", EVIL).value(Some(EVIL)).hint(EVIL))
            .with(Field::one_of("c", EVIL, [(EVIL, EVIL)]).value(Some(EVIL)))
            .with(Field::check("d", EVIL))
            .with(Field::hidden("e", EVIL))
            .dangerous()
            .cancel(EVIL);
        for html in [
            form.render().unwrap(),
            Button::link(EVIL, EVIL).render().unwrap(),
            Pager::new(EVIL, Some(EVIL), Some(EVIL)).partly(String::from(EVIL)).render().unwrap(),
        ] {
            assert!(!html.contains("<script") && !html.contains("\"\">"), "{html}");
        }
    }

    #[test]
    fn a_form_that_changes_something_carries_the_token_and_one_that_asks_does_not() {
        let changing = Form::post("/console/x", "t0ken", "Do it").render().unwrap();
        assert!(changing.contains("method=\"post\"") && changing.contains("value=\"t0ken\""), "{changing}");
        let asking = Form::filter("/console/x").with(Field::line("a", "A")).render().unwrap();
        assert!(asking.contains("method=\"get\"") && !asking.contains("csrf"), "{asking}");
        let chosen = Form::ask("/x", "Ask").with(Field::one_of("s", "S", [("a", "A"), ("b", "B")]).value(Some("b")));
        assert!(chosen.render().unwrap().contains("value=\"b\" selected"), "{}", chosen.render().unwrap());
    }

    #[test]
    fn pages_keep_their_filters() {
        let pager = Pager::new("/console/payments", Some("status=failed&channel=&cursor=0a"), Some("0b"));
        assert_eq!(pager.first.as_deref(), Some("/console/payments?status=failed"));
        assert_eq!(pager.next.as_deref(), Some("/console/payments?status=failed&cursor=0b"));
        let only = Pager::new("/console/payments", None, None);
        assert!(only.first.is_none() && only.next.is_none());
    }
}

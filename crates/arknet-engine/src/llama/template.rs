//! Conversations in the form a model was trained on, by the template in its own file.

use std::time::{SystemTime, UNIX_EPOCH};

use arknet_types::Message;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;

/// How models without a template of their own write conversations, if their vocabulary has the
/// tokens for it.
pub(crate) const CHATML: &str = "{% for message in messages %}\
    {{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}\
    {% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

const NAME: &str = "chat";

/// A compiled chat template.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos_token: String,
    eos_token: String,
}

/// Why a conversation was not written down. Never holds what a user wrote.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum TemplateError {
    /// The template says so, in its own words.
    #[error("{0}")]
    Raised(String),
    /// Something in it does not work for this conversation.
    #[error("it fails in line {line}: {kind}")]
    Failed { line: usize, kind: String },
}

impl ChatTemplate {
    /// Compiles a template once.
    pub(crate) fn new(
        source: String,
        bos_token: String,
        eos_token: String,
    ) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        // The settings under which templates are written and tested by those who train models.
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", tojson);
        environment.add_template_owned(NAME, source.clone()).map_err(|error| failed(&error))?;
        Ok(Self { environment, source, bos_token, eos_token })
    }

    /// Writes a conversation down, up to where the model's answer begins. `content` gives the text
    /// of each message.
    pub(crate) fn render(
        &self,
        messages: &[Message],
        content: impl Fn(&Message) -> String,
    ) -> Result<String, TemplateError> {
        let messages: Vec<Value> = messages
            .iter()
            .map(|m| context! { role => m.role.as_str(), content => content(m) })
            .collect();
        let template = self.environment.get_template(NAME).expect("added in new");
        template
            .render(context! {
                messages,
                add_generation_prompt => true,
                bos_token => self.bos_token,
                eos_token => self.eos_token,
            })
            .map_err(|error| self.explain(&error))
    }

    fn explain(&self, error: &Error) -> TemplateError {
        match error.detail() {
            // A template may put together a message from what a user wrote; only its own words
            // leave this place.
            Some(words)
                if error.kind() == ErrorKind::InvalidOperation && self.source.contains(words) =>
            {
                TemplateError::Raised(words.to_owned())
            }
            _ => failed(error),
        }
    }
}

fn failed(error: &Error) -> TemplateError {
    TemplateError::Failed { line: error.line().unwrap_or(0), kind: error.kind().to_string() }
}

fn raise_exception(words: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, words))
}

/// JSON without the escapes that only matter inside HTML.
fn tojson(value: &Value) -> Result<Value, Error> {
    serde_json::to_string(value)
        .map(Value::from_safe_string)
        .map_err(|_| Error::new(ErrorKind::BadSerialization, "not representable as JSON"))
}

/// Today, in the few forms templates ask for, in UTC.
fn strftime_now(format: &str) -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    strftime(seconds, format)
}

fn strftime(seconds: u64, format: &str) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] =
        ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    let (year, month, day) = date(seconds / 86_400);
    let month_name = MONTHS[month - 1];
    let day_name = DAYS[(seconds / 86_400 % 7) as usize];
    let mut text = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        text.push_str(&match rest.next() {
            Some('A') => day_name.to_owned(),
            Some('a') => day_name[..3].to_owned(),
            Some('B') => month_name.to_owned(),
            Some('b') => month_name[..3].to_owned(),
            Some('d') => format!("{day:02}"),
            Some('H') => format!("{:02}", seconds / 3600 % 24),
            Some('M') => format!("{:02}", seconds / 60 % 60),
            Some('m') => format!("{month:02}"),
            Some('S') => format!("{:02}", seconds % 60),
            Some('Y') => year.to_string(),
            Some('y') => format!("{:02}", year % 100),
            Some('%') => "%".to_owned(),
            Some(other) => format!("%{other}"),
            None => "%".to_owned(),
        });
    }
    text
}

/// Year, month and day of a number of days after the first of January 1970.
fn date(mut days: u64) -> (u64, usize, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arknet_types::Role;

    fn message(role: Role, content: &str) -> Message {
        Message { role, content: content.into() }
    }

    fn render(source: &str, messages: &[Message]) -> Result<String, TemplateError> {
        ChatTemplate::new(source.into(), "<s>".into(), "</s>".into())?
            .render(messages, |m| m.content.clone())
    }

    #[test]
    fn chatml() {
        let text = render(CHATML, &[message(Role::System, "Be brief."), message(Role::User, "Hi")]);
        assert_eq!(
            text.unwrap(),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        );
    }

    #[test]
    fn what_templates_in_the_wild_use_works() {
        let source = "{{ bos_token }}\n{%- set ns = namespace(last='') %}
            {%- for m in messages[::-1] %}
                {%- if m.role == 'user' and loop.first and m.content is string %}
                    {%- set ns.last = m['content'].strip().split(' ')[-1] %}
                {%- endif %}
                {%- if not loop.last %}{% continue %}{% endif %}
            {%- endfor %}
            {%- for key, value in {'a': '<b>'}.items() %}{{ key }}{{ {'v': value} | tojson }}{% endfor %}
            {%- if tools %}never{% endif %}
            {{- ns.last }}{{ eos_token }}";
        let text = render(source, &[message(Role::User, " one two ")]).unwrap();
        assert_eq!(text, "<s>a{\"v\":\"<b>\"}two</s>");
    }

    #[test]
    fn blocks_leave_no_white_space() {
        let source =
            "{% for m in messages %}\n    {% if true %}\nx\n    {% endif %}\n{% endfor %}\n";
        assert_eq!(render(source, &[message(Role::User, "")]).unwrap(), "x\n");
    }

    #[test]
    fn a_template_may_refuse_in_its_own_words_only() {
        let error = |source| render(source, &[message(Role::User, "secret")]).unwrap_err();
        assert_eq!(
            error("{{ raise_exception('Roles must alternate') }}"),
            TemplateError::Raised("Roles must alternate".into())
        );
        for source in [
            "{{ raise_exception('no ' + messages[0].content) }}",
            "{{ messages[0].content.nothing.at_all }}",
            "{{ messages[0].content | nofilter }}",
            "{% if %}",
        ] {
            let error = error(source);
            assert!(matches!(error, TemplateError::Failed { .. }), "{source}");
            assert!(!error.to_string().contains("secret"), "{source}");
        }
    }

    #[test]
    fn dates() {
        assert_eq!(strftime(0, "%d %b %Y %A"), "01 Jan 1970 Thursday");
        assert_eq!(strftime(951_782_399, "%Y-%m-%d %H:%M:%S"), "2000-02-28 23:59:59");
        assert_eq!(strftime(951_782_400, "%a %d %B %y %%"), "Tue 29 February 00 %");
        assert_eq!(strftime(1_798_675_200, "%Y-%m-%d"), "2026-12-31");
        assert_eq!(strftime(1_798_761_600, "%Y-%m-%d%"), "2027-01-01%");
    }
}

//! Letters: what mails say, in text and HTML.
//!
//! In: the name of a template, facts. Out: subject and bodies, from the files of `templates/mail`.
//! Always holds: facts are escaped in HTML; a subject is one line, whatever a site is called.

use askama::Template;

/// What letters speak of. What a letter does not need stays empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The site.
    pub site: String,
    /// The plan.
    pub plan: String,
    /// Where to go.
    pub link: String,
    /// When, for people.
    pub date: String,
    /// An amount with its currency.
    pub amount: String,
    /// Units used.
    pub used: String,
    /// Units there are.
    pub limit: String,
    /// Why.
    pub reason: String,
    /// Whether what is used past the limit is charged.
    pub is_overage: bool,
}

/// A letter that is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// One line.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// HTML.
    pub html: String,
}

macro_rules! letters {
    ($($name:literal $text:ident $text_path:literal $html:ident $html_path:literal $subject:literal,)*) => {
        $(
            #[derive(Template)]
            #[template(path = $text_path, escape = "none")]
            struct $text<'f> {
                facts: &'f Facts,
            }

            #[derive(Template)]
            #[template(path = $html_path, escape = "html")]
            struct $html<'f> {
                subject: &'f str,
                facts: &'f Facts,
            }
        )*

        /// The names of all templates.
        #[cfg(test)]
        pub const NAMES: &[&str] = &[$($name),*];

        /// Writes a letter.
        ///
        /// # Errors
        /// Where there is no such template.
        pub fn write(name: &str, facts: &Facts) -> Result<Letter, String> {
            let wrong = |error: askama::Error| error.to_string();
            match name {
                $($name => {
                    let subject = one_line(&$subject.replace("SITE", &facts.site));
                    let text = $text { facts }.render().map_err(wrong)?;
                    let html = $html { subject: &subject, facts }.render().map_err(wrong)?;
                    Ok(Letter { subject, text, html })
                })*
                _ => Err(format!("there is no template {name}")),
            }
        }
    };
}

letters! {
    "key_link" KeyLinkText "mail/key_link.txt" KeyLinkHtml "mail/key_link.html" "Your API key for SITE",
    "free_key_link" FreeKeyLinkText "mail/free_key_link.txt" FreeKeyLinkHtml "mail/free_key_link.html"
        "Your API key for SITE",
    "payment_failed" FailedText "mail/payment_failed.txt" FailedHtml "mail/payment_failed.html"
        "Your payment for SITE did not come through",
    "payment_action_required" ActionText "mail/payment_action_required.txt" ActionHtml
        "mail/payment_action_required.html" "Please confirm your payment for SITE",
    "trial_ending" TrialText "mail/trial_ending.txt" TrialHtml "mail/trial_ending.html" "Your trial of SITE ends soon",
    "quota_80" Quota80Text "mail/quota_80.txt" Quota80Html "mail/quota_80.html" "80 % of your units for SITE are used",
    "quota_100" Quota100Text "mail/quota_100.txt" Quota100Html "mail/quota_100.html"
        "All of your units for SITE are used",
    "endpoint_disabled" DisabledText "mail/endpoint_disabled.txt" DisabledHtml "mail/endpoint_disabled.html"
        "A webhook endpoint was turned off",
}

fn one_line(text: &str) -> String {
    text.chars().map(|each| if each.is_control() { ' ' } else { each }).collect()
}

#[cfg(test)]
#[path = "letter_tests.rs"]
mod tests;

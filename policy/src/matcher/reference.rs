//! The matcher again, slow and obvious: what the fast one is held against by tests and fuzzing.
//!
//! In: rules, settings, method, path. Out: the answer, or that the path is refused.
//! Always holds: nothing is shared with the fast matcher but the parsed patterns and the folding of letters; sets
//! instead of buffers, recursion instead of a greedy scan, every rule tried for every spelling.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::answer::{Access, RejectCause, Rule, RuleRef, Settings};
use super::fold::fold_into;
use super::pattern::Segment;

/// Spellings after which the reference gives up; the fast matcher gives up no later.
const SPELLINGS_MAX: usize = 4 * super::closure::SPELLINGS_MAX;

/// The answer, as [`super::Match`] has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The strictest access.
    pub access: Access,
    /// The resource to log.
    pub logged: Option<RuleRef>,
    /// Units.
    pub cost: u64,
    /// Every paid resource met.
    pub paid: BTreeSet<RuleRef>,
}

/// What [`super::Matcher::resolve`] must answer.
///
/// # Errors
/// The path is to be refused. Where several causes apply, any of them may be given.
pub fn resolve(
    rules: &[Rule<'_>],
    settings: Settings,
    method: &[u8],
    path: &[u8],
) -> Result<Answer, RejectCause> {
    let path = if path == b"*" { b"/" } else { path };
    if !path.starts_with(b"/") {
        return Err(RejectCause::NotRooted);
    }
    let spellings = spellings(path)?;
    let site = Site { rules, settings, method, escaped: escaped_bytes(rules) };
    let mut met: BTreeSet<RuleRef> = BTreeSet::new();
    for spelling in &spellings {
        for folded in [false, true] {
            if folded && settings.case_sensitive {
                continue;
            }
            match site.find(spelling, folded) {
                Some(index) => drop(met.insert(RuleRef::Rule(index))),
                None if !settings.default_paid => {}
                None if site.is_excepted(path, spelling, &spellings) => {}
                None => drop(met.insert(RuleRef::Default)),
            }
        }
    }
    Ok(site.sum_up(path, &met))
}

struct Site<'a> {
    rules: &'a [Rule<'a>],
    settings: Settings,
    method: &'a [u8],
    escaped: BTreeSet<u8>,
}

impl Site<'_> {
    fn rule(&self, found: RuleRef) -> (Access, u64) {
        match found {
            RuleRef::Rule(index) => self
                .rules
                .get(index as usize)
                .map_or((Access::Blocked, 0), |rule| (rule.access, rule.cost)),
            RuleRef::Default => (Access::Paid, 1),
        }
    }

    fn sum_up(&self, path: &[u8], met: &BTreeSet<RuleRef>) -> Answer {
        let paid: BTreeSet<RuleRef> =
            met.iter().copied().filter(|found| self.rule(*found).0 == Access::Paid).collect();
        let access = met.iter().map(|found| self.rule(*found).0).max().unwrap_or(Access::Free);
        let mut sent = self.find(path, false).map(RuleRef::Rule);
        if sent.is_none() && self.settings.default_paid {
            sent = Some(RuleRef::Default);
        }
        let sent_folded = match self.settings.case_sensitive {
            true => None,
            false => self.find(path, true).map(RuleRef::Rule),
        };
        let cost = match access {
            Access::Paid => paid.iter().map(|found| self.rule(*found).1).max().unwrap_or(0),
            Access::Free | Access::Blocked => 0,
        };
        let fits = |found: &RuleRef| {
            met.contains(found)
                && self.rule(*found).0 == access
                && (access != Access::Paid || self.rule(*found).1 == cost)
        };
        let first = met.iter().copied().find(fits).filter(|_| access != Access::Free);
        let logged = sent.filter(fits).or(sent_folded.filter(fits)).or(first);
        Answer { access, logged, cost, paid }
    }

    /// The most specific rule that names the spelling.
    fn find(&self, spelling: &[u8], folded: bool) -> Option<u32> {
        let segments: Vec<&[u8]> =
            spelling.get(1..).unwrap_or_default().split(|byte| *byte == b'/').collect();
        let mut best: Option<u32> = None;
        for (index, rule) in (0..).zip(self.rules) {
            let names = rule.methods.contains(self.method)
                && self.names(rule.pattern.segments(), &segments, folded);
            if names && best.is_none_or(|best| self.is_before(index, best)) {
                best = Some(index);
            }
        }
        best
    }

    fn names(&self, pattern: &[Segment], path: &[&[u8]], folded: bool) -> bool {
        let end = path.len();
        // Every place that the pattern so far can have led to.
        let mut places = BTreeSet::from([0]);
        for segment in pattern {
            let steps = places.iter().flat_map(|&place| match (segment, path.get(place)) {
                (Segment::Many, _) => place..=end,
                (Segment::Rest, Some(_)) => end..=end,
                (Segment::One, Some(head)) if !head.is_empty() => place + 1..=place + 1,
                (Segment::Literal(literal), Some(head))
                    if self.equals(head, literal.plain(), folded) =>
                {
                    place + 1..=place + 1
                }
                _ => RangeInclusive::new(1, 0),
            });
            places = steps.collect();
        }
        places.contains(&end)
    }

    fn equals(&self, segment: &[u8], literal: &[u8], folded: bool) -> bool {
        let honest = replace_escapes(segment, |value| {
            !super::bytes::may_stand_plain(value) || self.escaped.contains(&value)
        });
        [segment.to_vec(), honest].iter().any(|form| match folded {
            true => fold(form) == fold(literal),
            false => form == literal,
        })
    }

    /// Whether rule `a` is more specific than rule `b`.
    fn is_before(&self, a: u32, b: u32) -> bool {
        let (Some(left), Some(right)) = (self.rules.get(a as usize), self.rules.get(b as usize))
        else {
            return false;
        };
        let rank = |segment: Option<&Segment>| match segment {
            Some(Segment::Literal(_)) => 0,
            Some(Segment::One) => 1,
            Some(Segment::Rest) => 2,
            Some(Segment::Many) => 3,
            None => 4,
        };
        let (left_segments, right_segments) = (left.pattern.segments(), right.pattern.segments());
        for position in 0..left_segments.len().max(right_segments.len()) {
            let (one, other) =
                (rank(left_segments.get(position)), rank(right_segments.get(position)));
            if one != other {
                return one < other;
            }
        }
        let size = |rule: &Rule<'_>| match rule.methods.is_all() {
            true => usize::MAX,
            false => rule.methods.names().count(),
        };
        if size(left) != size(right) {
            return size(left) < size(right);
        }
        if left.access != right.access {
            return left.access > right.access;
        }
        if left.cost != right.cost {
            return left.cost > right.cost;
        }
        a < b
    }

    /// The exception for `/open/` on a site that is paid by default.
    fn is_excepted(&self, path: &[u8], spelling: &[u8], all: &BTreeSet<Vec<u8>>) -> bool {
        let with_slash = [spelling, b"/"].concat();
        let ways: &[bool] = if self.settings.case_sensitive { &[false] } else { &[false, true] };
        let is_directory = |text: &[u8], folded: bool| {
            let Some(rule) = self.find(text, folded).and_then(|at| self.rules.get(at as usize))
            else {
                return false;
            };
            let Some((last, front)) = rule.pattern.segments().split_last() else { return false };
            let slashes = text.iter().filter(|byte| **byte == b'/').count();
            front.iter().all(|segment| matches!(segment, Segment::Literal(_)))
                && (*last == Segment::Rest
                    || matches!(last, Segment::Literal(text) if text.plain().is_empty()))
                && slashes == front.len() + 1
        };
        let ends = |text: &[u8]| text.len() > 1 && text.ends_with(b"/");
        ends(path)
            && !ends(spelling)
            && all.contains(&with_slash)
            && all
                .iter()
                .filter(|text| ends(text))
                .all(|text| ways.iter().all(|folded| is_directory(text, *folded)))
    }
}

fn escaped_bytes(rules: &[Rule<'_>]) -> BTreeSet<u8> {
    let mut escaped = BTreeSet::new();
    for rule in rules {
        for window in rule.pattern.as_str().as_bytes().windows(3) {
            if let [b'%', high, low] = window
                && let Some(value) = hex(*high, *low)
            {
                escaped.insert(value);
            }
        }
    }
    escaped
}

fn fold(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    fold_into(text, &mut out);
    out
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digits = [high, low];
    let text = std::str::from_utf8(&digits).ok().filter(|text| !text.contains('+'))?;
    u8::from_str_radix(text, 16).ok()
}

fn replace_escapes(text: &[u8], undone: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        if let Some([b'%', high, low]) = text.get(at..at + 3)
            && let Some(value) = hex(*high, *low)
            && undone(value)
        {
            out.push(value);
            at += 3;
        } else {
            out.push(byte);
            at += 1;
        }
    }
    out
}

/// Every spelling of `path`.
///
/// # Errors
/// A spelling holds a control byte or climbs above the root, or there are too many.
pub fn spellings(path: &[u8]) -> Result<BTreeSet<Vec<u8>>, RejectCause> {
    let mut all = BTreeSet::new();
    let mut level = BTreeSet::from([path.to_vec()]);
    for decoded in 0..=2 {
        let mut waiting: Vec<Vec<u8>> = level.iter().cloned().collect();
        while let Some(text) = waiting.pop() {
            if text.iter().any(u8::is_ascii_control) {
                return Err(RejectCause::ControlByte);
            }
            if all.len() + level.len() > SPELLINGS_MAX {
                return Err(RejectCause::TooManySpellings);
            }
            for next in one_step(&text, decoded < 2)? {
                if level.insert(next.clone()) {
                    waiting.push(next);
                }
            }
        }
        let next = level.iter().flat_map(|text| decodings(text)).collect();
        all.append(&mut level);
        level = next;
    }
    Ok(all)
}

fn decodings(text: &[u8]) -> [Vec<u8>; 4] {
    let unreserved = replace_escapes(text, |value| {
        value.is_ascii_alphanumeric() || [b'-', b'.', b'_', b'~'].contains(&value)
    });
    let everything = replace_escapes(text, |_| true);
    let segmentwise = replace_escapes(text, |value| value != b'/');
    let mut with_u = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let unit = match text.get(at..at + 6) {
            Some([b'%', b'u' | b'U', a, b, c, d]) => {
                hex(*a, *b).zip(hex(*c, *d)).map(|(high, low)| u16::from_be_bytes([high, low]))
            }
            _ => None,
        };
        if let Some(unit) = unit {
            with_u.extend_from_slice(String::from_utf16_lossy(&[unit]).as_bytes());
            at += 6;
        } else if let Some([b'%', high, low]) = text.get(at..at + 3)
            && let Some(value) = hex(*high, *low)
        {
            with_u.push(value);
            at += 3;
        } else {
            with_u.push(byte);
            at += 1;
        }
    }
    [everything, segmentwise, unreserved, with_u]
}

/// `%2e` may stand for a dot where fewer than two escapes have been undone.
fn one_step(text: &[u8], encoded_dots: bool) -> Result<Vec<Vec<u8>>, RejectCause> {
    let segments: Vec<&[u8]> =
        text.get(1..).unwrap_or_default().split(|byte| *byte == b'/').collect();
    let without_params = |segment: &[u8]| -> Vec<u8> {
        segment.split(|byte| *byte == b';').next().unwrap_or_default().to_vec()
    };
    let all_params: Vec<Vec<u8>> = segments.iter().map(|part| without_params(part)).collect();
    let mut last_params: Vec<Vec<u8>> = segments.iter().map(|part| part.to_vec()).collect();
    if let Some(last) = last_params.last_mut() {
        *last = without_params(last);
    }
    let mut merged = text.to_vec();
    while let Some(at) = merged.windows(2).position(|pair| pair == b"//") {
        merged.remove(at);
    }
    let mut trimmed = text.to_vec();
    while trimmed.len() > 1 && trimmed.ends_with(b"/") {
        trimmed.pop();
    }
    let turned = text.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect();
    let cut = text.split(|byte| b"?#".contains(byte)).next().unwrap_or_default().to_vec();
    Ok(vec![
        merged,
        trimmed,
        turned,
        cut,
        join(&all_params),
        join(&last_params),
        without_dots(&segments, false)?,
        without_dots(&segments, encoded_dots)?,
        without_authority(text),
        shortest_utf8(text),
    ])
}

fn join(segments: &[Vec<u8>]) -> Vec<u8> {
    segments.iter().flat_map(|segment| [b"/", &**segment].concat()).collect()
}

fn without_dots(segments: &[&[u8]], encoded: bool) -> Result<Vec<u8>, RejectCause> {
    let plain = |segment: &[u8]| match encoded {
        true => replace_escapes(segment, |value| value == b'.'),
        false => segment.to_vec(),
    };
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for segment in segments {
        match &*plain(segment) {
            b"." => {}
            b".." => drop(kept.pop().ok_or(RejectCause::AboveRoot)?),
            _ => kept.push(segment.to_vec()),
        }
    }
    let last = segments.last().copied().unwrap_or_default();
    if [&b"."[..], b".."].contains(&&*plain(last)) {
        kept.push(Vec::new());
    }
    Ok(join(&kept))
}

fn without_authority(text: &[u8]) -> Vec<u8> {
    if !text.starts_with(b"//") {
        return text.to_vec();
    }
    let start = text.iter().position(|byte| *byte != b'/').unwrap_or(text.len());
    let rest = text.get(start..).unwrap_or_default();
    match rest.iter().position(|byte| *byte == b'/') {
        Some(at) => rest.get(at..).unwrap_or_default().to_vec(),
        None => b"/".to_vec(),
    }
}

fn shortest_utf8(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    'bytes: while let Some(&lead) = text.get(at) {
        for length in 2..=6 {
            let Some(sequence) = text.get(at..at + length) else { break };
            if let Some(letter) = overlong(sequence) {
                out.extend_from_slice(letter.to_string().as_bytes());
                at += length;
                continue 'bytes;
            }
        }
        out.push(lead);
        at += 1;
    }
    out
}

/// The character of a sequence that is longer than UTF-8 allows for it.
fn overlong(sequence: &[u8]) -> Option<char> {
    let (lead, tail) = sequence.split_first()?;
    let length = u32::try_from(sequence.len()).ok()?;
    let is_continued = tail.iter().all(|byte| (0x80..0xC0).contains(byte));
    if lead.leading_ones() != length || !is_continued {
        return None;
    }
    let first = u32::from(*lead) & ((1 << (7 - length)) - 1);
    let value = tail.iter().fold(first, |value, byte| value * 64 + u32::from(*byte & 0x3F));
    char::from_u32(value).filter(|letter| letter.len_utf8() < sequence.len())
}

//! Models of origins: what each would read in a path, with what stands before it.
//!
//! In: the path as sent. Out: the segments a model routes by, or nothing where it refuses the path itself.
//! Always holds: the models are written from how the servers work, in terms of text and stacks of their own; they share
//! no step with the matcher.

/// How one origin, with what stands before it, reads a path.
pub(super) struct Origin {
    pub(super) name: &'static str,
    /// The segments it routes by.
    pub(super) read: fn(&[u8]) -> Option<Vec<Vec<u8>>>,
    /// It compares letters without case.
    pub(super) ignores_case: bool,
}

pub(super) const ORIGINS: [Origin; 24] = [
    Origin { name: "raw", read: |path| Some(split(path)), ignores_case: false },
    Origin {
        name: "nginx",
        read: |path| nginx(path).map(|path| split(&path)),
        ignores_case: false,
    },
    Origin { name: "apache", read: apache, ignores_case: false },
    Origin {
        name: "apache, encoded slashes kept",
        read: apache_keeping_slashes,
        ignores_case: false,
    },
    Origin {
        name: "tomcat",
        read: |path| tomcat(path, false).map(|path| split(&path)),
        ignores_case: false,
    },
    Origin {
        name: "tomcat with backslashes",
        read: |path| tomcat(path, true).map(|path| split(&path)),
        ignores_case: false,
    },
    Origin { name: "jetty", read: jetty, ignores_case: false },
    Origin { name: "spring path patterns", read: spring, ignores_case: false },
    Origin { name: "express", read: express, ignores_case: true },
    Origin {
        name: "node with new URL",
        read: |path| whatwg(path).map(|path| split(&path)),
        ignores_case: false,
    },
    Origin {
        name: "node with new URL, decoding",
        read: |path| whatwg(path).map(|path| decoded_each(&split(&path))),
        ignores_case: true,
    },
    Origin {
        name: "go servemux",
        read: |path| Some(split(&go_clean(&percent(path)))),
        ignores_case: false,
    },
    Origin {
        name: "go servemux 1.22",
        read: |path| Some(decoded_each(&split(path))),
        ignores_case: false,
    },
    Origin {
        name: "werkzeug",
        read: |path| Some(split(&squeeze(&percent(path)))),
        ignores_case: false,
    },
    Origin { name: "django", read: |path| Some(split(&percent(path))), ignores_case: false },
    Origin { name: "rails", read: rails, ignores_case: false },
    Origin { name: "iis", read: |path| iis(path).map(|path| split(&path)), ignores_case: true },
    Origin { name: "kestrel", read: kestrel, ignores_case: true },
    Origin { name: "php behind parse_url", read: php, ignores_case: false },
    Origin {
        name: "nginx before tomcat",
        read: |path| tomcat(&nginx(path)?, false).map(|path| split(&path)),
        ignores_case: false,
    },
    Origin {
        name: "envoy before anything that decodes",
        read: |path| envoy(path).map(|path| split(&percent(&path))),
        ignores_case: false,
    },
    Origin { name: "parameters at the end alone", read: last_params, ignores_case: false },
    Origin {
        name: "new URL before two that decode",
        read: |path| dots(&percent(&whatwg(path)?)).map(|path| split(&percent(&path))),
        ignores_case: false,
    },
    Origin {
        name: "a lenient utf-8 decoder",
        read: |path| dots(&lenient(&percent(path))).map(|path| split(&path)),
        ignores_case: false,
    },
];

pub(super) fn split(path: &[u8]) -> Vec<Vec<u8>> {
    path[1..].split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect()
}

pub(super) fn glue(segments: &[Vec<u8>]) -> Vec<u8> {
    segments.iter().flat_map(|segment| [b"/", segment.as_slice()].concat()).collect()
}

pub(super) fn percent(path: &[u8]) -> Vec<u8> {
    percent_but(path, |_| false)
}

fn percent_but(path: &[u8], kept: fn(u8) -> bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut index = 0;
    while index < path.len() {
        let digits = path.get(index + 1..index + 3).and_then(|two| std::str::from_utf8(two).ok());
        let digits = digits.filter(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match digits.map(|two| u8::from_str_radix(two, 16).expect("two hex digits")) {
            Some(value) if path[index] == b'%' && !kept(value) => {
                out.push(value);
                index += 3;
            }
            _ => {
                out.push(path[index]);
                index += 1;
            }
        }
    }
    out
}

fn decoded_each(segments: &[Vec<u8>]) -> Vec<Vec<u8>> {
    segments.iter().map(|segment| percent(segment)).collect()
}

/// Resolves dot segments; climbing is refused.
fn dots(path: &[u8]) -> Option<Vec<u8>> {
    let segments = split(path);
    let mut stack: Vec<Vec<u8>> = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        let is_last = index + 1 == segments.len();
        match segment.as_slice() {
            b"." => {}
            b".." => drop(stack.pop()?),
            _ => {
                stack.push(segment.clone());
                continue;
            }
        }
        if is_last {
            stack.push(Vec::new());
        }
    }
    Some(glue(&stack))
}

fn squeeze(path: &[u8]) -> Vec<u8> {
    let mut out = path.to_vec();
    out.dedup_by(|next, previous| *next == b'/' && *previous == b'/');
    out
}

fn replaced(path: &[u8], from: u8, to: u8) -> Vec<u8> {
    path.iter().map(|byte| if *byte == from { to } else { *byte }).collect()
}

fn bare(segment: &[u8]) -> Vec<u8> {
    segment.iter().copied().take_while(|byte| *byte != b';').collect()
}

fn without_end_slash(path: &[u8]) -> Vec<u8> {
    match path.strip_suffix(b"/") {
        Some(front) if !front.is_empty() => front.to_vec(),
        _ => path.to_vec(),
    }
}

/// Decodes once, merges slashes and resolves dots in one go.
fn nginx(path: &[u8]) -> Option<Vec<u8>> {
    dots(&squeeze(&percent(path)))
}

fn has_encoded_slash(path: &[u8]) -> bool {
    path.to_ascii_lowercase().windows(3).any(|three| three == b"%2f")
}

fn apache(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    if has_encoded_slash(path) {
        return None;
    }
    Some(split(&squeeze(&dots(&squeeze(&percent(path)))?)))
}

/// `AllowEncodedSlashes NoDecode`.
fn apache_keeping_slashes(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let kept = percent_but(path, |value| value == b'/');
    Some(decoded_each_slash(&split(&dots(&squeeze(&kept))?)))
}

/// What a CGI makes of a kept `%2F` when it takes its segments apart.
fn decoded_each_slash(segments: &[Vec<u8>]) -> Vec<Vec<u8>> {
    segments.iter().map(|segment| percent_but(segment, |value| value != b'/')).collect()
}

/// Path parameters off, then decode, then normalise.
fn tomcat(path: &[u8], backslashes: bool) -> Option<Vec<u8>> {
    let stripped: Vec<Vec<u8>> = split(path).iter().map(|segment| bare(segment)).collect();
    let mut decoded = percent(&glue(&stripped));
    if backslashes {
        decoded = replaced(&decoded, b'\\', b'/');
    }
    dots(&squeeze(&decoded))
}

/// Resolves dots on the encoded path, parameters aside, then decodes.
fn jetty(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let stripped: Vec<Vec<u8>> = split(path).iter().map(|segment| bare(segment)).collect();
    Some(split(&percent(&dots(&glue(&stripped))?)))
}

/// Splits first; parameters off and decoding segment by segment; an end slash ignored.
fn spring(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let segments = split(&without_end_slash(path));
    Some(segments.iter().map(|segment| percent(&bare(segment))).collect())
}

/// As RFC 2396 had them at first: parameters belong to the whole path.
fn last_params(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut segments = split(path);
    let last = segments.pop()?;
    segments.push(bare(&last));
    Some(decoded_each(&segments))
}

/// Matches the path as it came, letter case and an end slash aside.
fn express(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    Some(split(&without_end_slash(path)))
}

/// `new URL(path, "http://origin").pathname`: backslashes are slashes, two leading ones begin a host, `%2e` is a dot.
fn whatwg(path: &[u8]) -> Option<Vec<u8>> {
    let mut path: Vec<u8> = path.iter().copied().take_while(|byte| !b"?#".contains(byte)).collect();
    path = replaced(&path, b'\\', b'/');
    if path.starts_with(b"//") {
        let host = path.iter().position(|byte| *byte != b'/')?;
        let end = path[host..].iter().position(|byte| *byte == b'/');
        path = end.map_or(b"/".to_vec(), |end| path[host + end..].to_vec());
    }
    let segments: Vec<Vec<u8>> = split(&path)
        .into_iter()
        .map(|segment| match percent_but(&segment, |value| value != b'.').as_slice() {
            dotted @ (b"." | b"..") => dotted.to_vec(),
            _ => segment,
        })
        .collect();
    dots(&glue(&segments))
}

/// `path.Clean`, and the end slash put back.
fn go_clean(path: &[u8]) -> Vec<u8> {
    let mut stack: Vec<Vec<u8>> = Vec::new();
    for segment in split(path) {
        match segment.as_slice() {
            b"" | b"." => {}
            b".." => drop(stack.pop()),
            _ => stack.push(segment),
        }
    }
    if path.ends_with(b"/") || stack.is_empty() {
        stack.push(Vec::new());
    }
    glue(&stack)
}

/// Journey: slashes merged, the end slash off, then segments matched and decoded.
fn rails(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    Some(decoded_each(&split(&without_end_slash(&squeeze(path)))))
}

/// http.sys: `%uXXXX` as well, backslashes are slashes, dots resolved last.
fn iis(path: &[u8]) -> Option<Vec<u8>> {
    let text: Vec<u8> = path.to_vec();
    let mut out = Vec::new();
    let mut index = 0;
    while index < text.len() {
        let unit = text.get(index..index + 6).and_then(|six| {
            let digits = std::str::from_utf8(six.strip_prefix(b"%u")?).ok()?;
            digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(())?;
            char::from_u32(u32::from_str_radix(digits, 16).ok()?)
        });
        if let Some(unit) = unit {
            out.extend_from_slice(unit.to_string().as_bytes());
            index += 6;
        } else {
            let end = if text[index] == b'%' { (index + 3).min(text.len()) } else { index + 1 };
            let piece = percent(&text[index..end]);
            if piece.len() == 1 {
                out.extend(piece);
                index = end;
            } else {
                out.push(text[index]);
                index += 1;
            }
        }
    }
    dots(&squeeze(&replaced(&out, b'\\', b'/')))
}

/// Decodes all but the slash, resolves dots, ignores letter case and an end slash.
fn kestrel(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let decoded = percent_but(path, |value| value == b'/');
    Some(split(&without_end_slash(&dots(&decoded)?)))
}

/// `parse_url($_SERVER['REQUEST_URI'])` and `rawurldecode`: two leading slashes begin a host.
fn php(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut path: Vec<u8> = path.iter().copied().take_while(|byte| !b"?#".contains(byte)).collect();
    if path.starts_with(b"//") && path.get(2).is_some_and(|byte| *byte != b'/') {
        let end = path[2..].iter().position(|byte| *byte == b'/')?;
        path = path[2 + end..].to_vec();
    }
    Some(split(&percent(&path)))
}

/// `normalize_path` (dots, backslashes; escapes of unreserved characters undone) and `merge_slashes`.
fn envoy(path: &[u8]) -> Option<Vec<u8>> {
    let plain =
        percent_but(path, |value| !(value.is_ascii_alphanumeric() || b"-._~".contains(&value)));
    Some(squeeze(&dots(&replaced(&plain, b'\\', b'/'))?))
}

/// Two- and three-byte sequences taken for what their bits say, overlong or not.
fn lenient(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = path;
    while let Some(&first) = rest.first() {
        let (taken, value) = match rest {
            [a @ 0xC0..=0xC1, b @ 0x80..=0xBF, ..] => (2, Some((a & 0x1F) << 6 | (b & 0x3F))),
            [0xE0, a @ 0x80..=0x81, b @ 0x80..=0xBF, ..] => (3, Some((a & 1) << 6 | (b & 0x3F))),
            _ => (1, None),
        };
        out.push(value.unwrap_or(first));
        rest = &rest[taken..];
    }
    out
}

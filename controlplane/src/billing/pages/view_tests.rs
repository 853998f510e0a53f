use super::STYLE;

/// Relative luminance (WCAG 2.2, "relative luminance") of `#rgb` or `#rrggbb`.
fn luminance(colour: &str) -> f64 {
    let digits = colour.trim_start_matches('#');
    let wide: String = match digits.len() {
        3 => digits.chars().flat_map(|digit| [digit, digit]).collect(),
        _ => digits.to_owned(),
    };
    let channel = |at: usize| {
        let value = f64::from(u8::from_str_radix(&wide[at..at + 2], 16).unwrap()) / 255.0;
        if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * channel(0) + 0.7152 * channel(2) + 0.0722 * channel(4)
}

fn contrast(one: &str, other: &str) -> f64 {
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

/// The colours of a scheme: what stands in the braces of its `:root`.
fn colours(root: &str) -> impl Fn(&str) -> String {
    let body = root.split_once('}').unwrap().0.to_owned();
    move |name| {
        let (_, rest) = body.split_once(&format!("--{name}:")).unwrap();
        rest.split([';', '}']).next().unwrap().to_owned()
    }
}

#[test]
fn text_stands_out_from_its_ground() {
    let schemes: Vec<&str> = STYLE.split(":root{").skip(1).collect();
    assert_eq!(schemes.len(), 2, "light and dark");
    for scheme in schemes {
        let of = colours(scheme);
        for (front, back, least) in [
            // Text and links (1.4.6), the words of buttons, the bounds of fields and the mark of the focus (1.4.11).
            ("ink", "ground", 7.0),
            ("deep", "ground", 7.0),
            ("onDeep", "deep", 7.0),
            ("line", "ground", 3.0),
        ] {
            let found = contrast(&of(front), &of(back));
            assert!(found >= least, "{front} on {back}: {found:.2} in {scheme}");
        }
    }
    assert!(STYLE.contains(":focus-visible{outline:3px"));
}

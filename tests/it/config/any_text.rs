//! Whatever stands in the file, there is an answer, and never a panic.

use proptest::prelude::*;
use ringway::config;

use super::{EVERYTHING, EXAMPLE, MINIMAL, read};

/// There is an answer, it can be drawn, and a good one means the same when it is read again.
fn survives(source: &str) -> Result<(), TestCaseError> {
    let findings = match config::parse(source, "test.toml") {
        Ok(loaded) => {
            let again = config::parse(&loaded.effective, "test.toml");
            let again = again.map_err(|errors| TestCaseError::fail(errors.to_string()))?;
            prop_assert_eq!(format!("{:?}", loaded.config), format!("{:?}", again.config));
            prop_assert_eq!(loaded.effective, again.effective);
            loaded.warnings
        }
        Err(errors) => {
            prop_assert!(!errors.findings().is_empty());
            prop_assert!(errors.render(true).len() > errors.render(false).len());
            errors.findings().to_vec()
        }
    };
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    for finding in findings {
        let place = finding.at.expect("what a text has wrong has a place");
        prop_assert!(source.get(place.span.clone()).is_some_and(|text| !text.contains('\n')));
        prop_assert!(place.line <= source.lines().count().max(1) && place.column >= 1);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_has_an_answer(source in any::<String>()) {
        survives(&source)?;
    }

    #[test]
    fn any_bytes_have_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        survives(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn any_text_of_toml_characters_has_an_answer(source in "[\\[\\]{}=,.\"'#\\\\ \n\r\tax0-9é_-]{0,80}") {
        survives(&source)?;
    }

    #[test]
    fn any_mutation_of_a_good_file_has_an_answer(
        whole in prop::sample::select(&[MINIMAL, EXAMPLE, EVERYTHING][..]),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..12_usize, "[\\[\\]{}=,.\"'#\\\\ \n-9a-z€]{0,3}"), 1..6),
    ) {
        let mut text: Vec<char> = read(whole).lines().filter(|line| !line.starts_with("# ")).collect::<Vec<_>>().join("\n").chars().collect();
        for (at, removed, added) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + removed).min(text.len());
            text.splice(at..end, added.chars());
        }
        survives(&text.into_iter().collect::<String>())?;
    }
}

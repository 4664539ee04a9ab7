//! "Did you mean": the nearest of the words that would have fitted.
//!
//! Pure; never reports anything itself.

/// The candidate that `word` most likely was meant to be, if any is near.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer words are nobody's typing mistake, and distances cost time.
    if word.len() > 64 {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let wanted = plain(word);
    let near = |candidate: &'a str| {
        let other = plain(candidate);
        let distance = strsim::damerau_levenshtein(&wanted, &other);
        let allowed = wanted.len().max(other.len()).div_ceil(4).max(1);
        // `timeout` for `total_timeout`: a part of the name, at least half of it.
        let part = wanted.len() >= 4 && other.contains(&wanted) && wanted.len() * 2 >= other.len();
        (distance <= allowed || part).then_some((distance, candidate))
    };
    candidates
        .into_iter()
        .filter_map(near)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `"a", "b" or "c"`.
pub(super) fn one_of(words: &[String]) -> String {
    listed(words, "or")
}

/// `"a", "b" and "c"`.
pub(super) fn all_of(words: &[String]) -> String {
    listed(words, "and")
}

fn listed(words: &[String], last_join: &str) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} {last_join} {last}", others.join(", ")),
        None => String::new(),
    }
}

/// Help for a word that is none of these.
pub(super) fn choice(word: &str, words: &[String]) -> String {
    match nearest(word, words.iter().map(String::as_str)) {
        Some(near) if words.len() > 2 => format!("did you mean \"{near}\"? It can be {}", one_of(words)),
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("write {}", one_of(words)),
    }
}

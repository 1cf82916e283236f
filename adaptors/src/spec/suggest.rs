//! Advice for a word that is not known: the word that was probably meant, or the separator that is missing.

/// Words of other libraries, and the word of a description for each.
const OTHER_NAMES: [(&str, &str); 15] = [
    ("cuda", "device"),
    ("gpu", "device"),
    ("cpu", "host"),
    ("pageable", "host"),
    ("unified", "managed"),
    ("uvm", "managed"),
    ("vmm", "virtual"),
    ("limiter", "limit"),
    ("stats", "statistics"),
    ("logging", "log"),
    ("track", "tracking"),
    ("tag", "tagged"),
    ("fixed", "fixed_size"),
    ("bins", "binning"),
    ("align", "aligned"),
];

/// Returns the advice for `word`, which is none of `names`. `known` is all words that a layer may have.
pub(super) fn advice(word: &str, names: &[&str], known: &[&str]) -> Option<String> {
    let parts: Vec<&str> =
        word.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|part| !part.is_empty()).collect();
    if parts.len() > 1 && parts.iter().any(|part| known.contains(part)) {
        return Some(match parts.contains(&"over") {
            // The form in which a stack is displayed: `pool over managed`.
            true => {
                let leaf_first: Vec<&str> = parts.into_iter().rev().filter(|&part| part != "over").collect();
                format!("the leaf is first, and layers are separated by `|`: `{}`", leaf_first.join(" | "))
            }
            false => format!("layers are separated by `|`: `{}`", parts.join(" | ")),
        });
    }
    did_you_mean(word, names)
}

/// Returns "did you mean ...?" if a name is similar to `word`, or if `word` is another library's word for the name.
pub(super) fn did_you_mean(word: &str, names: &[&str]) -> Option<String> {
    let word = word.to_lowercase();
    let other = OTHER_NAMES.iter().find(|(other, name)| *other == word && names.contains(name)).map(|(_, name)| *name);
    let similar = || {
        let distances = names.iter().map(|name| (distance(&word, name), *name));
        distances.filter(|(distance, name)| *distance <= (name.len() / 3).max(1)).min().map(|(_, name)| name)
    };
    other.or_else(similar).map(|name| format!("did you mean `{name}`?"))
}

/// Returns the number of letters to insert, remove, replace or swap with their neighbour that make `a` into `b`. Long
/// words are not compared.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(32).collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in
            [("pool", "pool", 0), ("pol", "pool", 1), ("hots", "host", 1), ("manged", "managed", 1), ("", "host", 4)]
        {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }

    #[test]
    fn a_word_that_is_not_similar_has_no_advice() {
        assert_eq!(did_you_mean("cache", &["pool", "limit", "statistics"]), None);
        assert_eq!(did_you_mean(&"x".repeat(100_000), &["pool"]), None);
    }
}

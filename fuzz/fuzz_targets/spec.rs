//! Stack specifications: every text is read or refused, a refusal points into the text, and what was read is printed
//! as a text that reads as the same stack.

#![no_main]

use cumem_adaptors::StackSpec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match StackSpec::parse(text) {
        Ok(spec) => {
            let printed = spec.to_string();
            let again = StackSpec::parse(&printed).expect("a printed stack is read");
            assert_eq!(again.to_string(), printed);
        }
        Err(error) => {
            assert!(text.get(error.span()).is_some(), "{:?} is no part of {text:?}", error.span());
            assert!(!error.message().is_empty());
            assert!(error.to_string().starts_with(error.message()));
        }
    }
});

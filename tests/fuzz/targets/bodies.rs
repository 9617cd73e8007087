//! libFuzzer's entry to `checks::bodies`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::checks::bodies(data));

//! libFuzzer's entry to `checks::frames`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::checks::frames(data));

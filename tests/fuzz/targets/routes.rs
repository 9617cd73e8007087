//! libFuzzer's entry to `checks::routes`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::checks::routes(data));

//! libFuzzer's entry to `checks::hello`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::checks::hello(data));

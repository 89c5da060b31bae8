//! [`switchboard_fuzz::hub`] under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| switchboard_fuzz::hub(data));

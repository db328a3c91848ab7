#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clutch_client::fuzzing::data_line(data));

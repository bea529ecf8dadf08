//! Gathers and scatters: each of their lanes may fault, and what is done is done.

use cellwall::{Access, Interrupt, Protection};
use iced_x86::code_asm::{
    CodeAssembler, dword_ptr, eax, k1, ptr, rdi, ymm0, ymm1, ymm2, zmm0, zmm1, zmm2,
};

use super::{NOWHERE, PAGE, called, paging_engine, run_mapping};
use crate::harness::DATA;

/// Sixteen words, each on a page of its own, in one instruction.
const LANES: u64 = 16;

/// The pages of the lanes, in no order.
fn lane_page(lane: u64) -> u64 {
    NOWHERE + (lane * 7 % LANES) * 3 * PAGE
}

/// Offsets of the lanes from the first page, as a vector of words.
fn offsets() -> Vec<u8> {
    let offset = |lane| u32::try_from(lane_page(lane) - NOWHERE + 4 * lane).unwrap();
    (0..LANES)
        .flat_map(|lane| offset(lane).to_le_bytes())
        .collect()
}

fn words(bytes: &[u8]) -> Vec<u32> {
    let (words, _) = bytes.as_chunks();
    words.iter().map(|word| u32::from_le_bytes(*word)).collect()
}

/// Runs a gather of so many lanes, and gives what it gathered into `DATA + 0x100`: page by page it
/// is answered, with a word that tells the page.
fn gather(lanes: u64, write: impl FnOnce(&mut CodeAssembler)) {
    let Some(engine) = paging_engine() else {
        return;
    };
    let mut instance = called(&engine, &[NOWHERE], write);
    instance.write(DATA, &offsets()).unwrap();
    let mut asked = 0;
    let end = loop {
        match instance.run().unwrap() {
            Interrupt::PageFault(fault) => {
                assert_eq!(fault.access, Access::Read);
                let number = u32::try_from(fault.page() / PAGE).unwrap();
                let page = number.to_le_bytes().repeat(1024);
                instance
                    .map_data(fault.page(), &page, Protection::Read)
                    .unwrap();
                asked += 1;
            }
            other => break other,
        }
    };
    assert_eq!(end, Interrupt::Finished(0));
    assert_eq!(asked, lanes);
    let expected: Vec<_> = (0..lanes)
        .map(|lane| u32::try_from(lane_page(lane) / PAGE).unwrap())
        .collect();
    assert_eq!(
        words(&instance.read(DATA + 0x100, 4 * lanes).unwrap()),
        expected
    );
}

#[test]
fn an_avx2_gather_goes_on_lane_by_lane() {
    if !is_x86_feature_detected!("avx2") {
        return absence::absent("avx2", "no gather");
    }
    gather(8, |code| {
        code.vmovdqu(ymm1, ptr(DATA)).unwrap();
        code.vpcmpeqd(ymm2, ymm2, ymm2).unwrap();
        code.vpxor(ymm0, ymm0, ymm0).unwrap();
        code.vpgatherdd_3(ymm0, dword_ptr(rdi + ymm1 * 1), ymm2)
            .unwrap();
        code.vmovdqu(ptr(DATA + 0x100), ymm0).unwrap();
        // The mask is used up.
        code.vpmovmskb(eax, ymm2).unwrap();
        code.ret().unwrap();
    });
}

#[test]
fn an_avx512_gather_goes_on_lane_by_lane() {
    if !is_x86_feature_detected!("avx512f") {
        return absence::absent("avx512f", "no gather");
    }
    gather(LANES, |code| {
        code.vmovdqu32(zmm1, ptr(DATA)).unwrap();
        code.kxnorw(k1, k1, k1).unwrap();
        code.vpxord(zmm0, zmm0, zmm0).unwrap();
        code.vpgatherdd(zmm0.k1(), dword_ptr(rdi + zmm1 * 1))
            .unwrap();
        code.vmovdqu32(ptr(DATA + 0x100), zmm0).unwrap();
        code.kmovw(eax, k1).unwrap();
        code.ret().unwrap();
    });
}

#[test]
fn an_avx512_scatter_goes_on_lane_by_lane() {
    if !is_x86_feature_detected!("avx512f") {
        return absence::absent("avx512f", "no scatter");
    }
    let Some(engine) = paging_engine() else {
        return;
    };
    let mut instance = called(&engine, &[NOWHERE], |code| {
        code.vmovdqu32(zmm1, ptr(DATA)).unwrap();
        code.vmovdqu32(zmm2, ptr(DATA + 0x100)).unwrap();
        code.kxnorw(k1, k1, k1).unwrap();
        code.vpscatterdd(dword_ptr(rdi + zmm1 * 1).k1(), zmm2)
            .unwrap();
        code.kmovw(eax, k1).unwrap();
        code.ret().unwrap();
    });
    instance.write(DATA, &offsets()).unwrap();
    let values: Vec<u32> = (1..=16).map(|lane| lane * 0x0101_0101).collect();
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    instance.write(DATA + 0x100, &bytes).unwrap();
    let (end, faults) = run_mapping(&mut instance);
    assert_eq!(end, Interrupt::Finished(0));
    // Scatters are ordered from the first lane to the last.
    let expected: Vec<_> = (0..LANES)
        .map(|lane| (lane_page(lane) + 4 * lane, Access::Write))
        .collect();
    assert_eq!(faults, expected);
    for (lane, value) in (0..).zip(values) {
        assert_eq!(
            instance.load::<u32>(lane_page(lane) + 4 * lane).unwrap(),
            value
        );
    }
}

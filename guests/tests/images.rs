//! What the loader relies on, of every image.

use object::LittleEndian as Le;
use object::elf::{self, FileHeader64};
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _};

#[test]
fn every_image_is_a_static_pie_with_relative_relocations_only() {
    for guest in cellwall_guests::all() {
        check(guest.image).unwrap_or_else(|error| panic!("{}: {error}", guest.name));
    }
}

fn check(image: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
    let header = FileHeader64::<Le>::parse(image)?;
    assert_eq!(header.e_type(Le), elf::ET_DYN);
    assert_eq!(header.e_machine(Le), elf::EM_X86_64);
    let segments = header.program_headers(Le, image)?;
    let mut table = None;
    for segment in segments {
        let flags = segment.p_flags(Le).0;
        match segment.p_type(Le) {
            elf::PT_LOAD => {
                assert!(flags & elf::PF_W.0 == 0 || flags & elf::PF_X.0 == 0);
                let holds = |at| {
                    segment.p_vaddr(Le) <= at && at - segment.p_vaddr(Le) < segment.p_memsz(Le)
                };
                assert!(!holds(header.e_entry(Le)) || flags & elf::PF_X.0 != 0);
            }
            elf::PT_GNU_STACK => assert_eq!(flags & elf::PF_X.0, 0),
            elf::PT_DYNAMIC => {
                let mut at = (0, 0);
                for entry in segment.dynamic(Le, image)?.unwrap_or_default() {
                    match entry.d_tag(Le) {
                        elf::DT_RELA => at.0 = usize::try_from(entry.d_val(Le))?,
                        elf::DT_RELASZ => at.1 = usize::try_from(entry.d_val(Le))?,
                        elf::DT_JMPREL
                        | elf::DT_REL
                        | elf::DT_RELR
                        | elf::DT_TEXTREL
                        | elf::DT_NEEDED => panic!("tag {}", entry.d_tag(Le).0),
                        _ => {}
                    }
                }
                table = Some(at);
            }
            elf::PT_PHDR | elf::PT_NULL => {}
            kind => panic!("segment of type {:#x}", kind.0),
        }
    }
    let (start, bytes) = table.expect("a dynamic segment");
    // The first segment starts with the file, and the table is in it.
    let table = &image[start..start + bytes];
    let (entries, rest) = object::pod::slice_from_all_bytes::<elf::Rela64<Le>>(table)
        .map(|entries| (entries, 0))
        .map_err(|()| "the table has no whole number of entries")?;
    assert_eq!(rest, 0);
    for entry in entries {
        assert_eq!(entry.r_type(Le, false), elf::R_X86_64_RELATIVE);
    }
    Ok(())
}

#[test]
fn names_lead_to_guests() {
    for guest in cellwall_guests::all() {
        assert_eq!(
            cellwall_guests::by_name(guest.name).unwrap().image,
            guest.image
        );
        assert!(!guest.about.is_empty());
    }
    assert!(cellwall_guests::by_name("nobody").is_none());
}

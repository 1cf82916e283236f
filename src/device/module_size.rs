//! The size of a compiled module, as its headers give it. The driver gets an image without its size, and would read past
//! the end of one that was cut off.
#![forbid(unsafe_code)]

/// The first bytes of a cubin, which is a 64-bit ELF file of little-endian numbers.
const ELF: [u8; 6] = [0x7f, b'E', b'L', b'F', 2, 1];
/// The first bytes of a fat binary (`__cudaFatFormat`, in NVIDIA's `fatbinary_section.h`).
const FAT: [u8; 4] = 0xba55_ed50_u32.to_le_bytes();

/// Reports whether an image is a cubin or a fat binary that ends no earlier than its headers say.
pub(super) fn is_whole(image: &[u8]) -> bool {
    let size = if image.starts_with(&ELF) {
        cubin_size(image)
    } else if image.starts_with(&FAT) {
        fat_size(image)
    } else {
        None
    };
    size.is_some_and(|size| size <= image.len() as u64)
}

fn number<const N: usize>(image: &[u8], at: u64) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    let bytes: [u8; N] = image.get(at..at.checked_add(N)?)?.try_into().ok()?;
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(&bytes);
    Some(u64::from_le_bytes(wide))
}

/// Returns the end of the last part of an ELF file: of its tables of sections and of segments, and of every section.
fn cubin_size(image: &[u8]) -> Option<u64> {
    /// The type of a section that takes no bytes in the file.
    const NO_BITS: u64 = 8;
    let (segments, sections) = (number::<8>(image, 32)?, number::<8>(image, 40)?);
    let [segment, segment_count, section, section_count] =
        [54, 56, 58, 60].map(|at| number::<2>(image, at).unwrap_or(0));
    let mut end = 64.max(segments.checked_add(segment * segment_count)?);
    end = end.max(sections.checked_add(section * section_count)?);
    for header in (0..section_count).map(|i| sections.checked_add(i * section)) {
        let header = header?;
        if number::<4>(image, header.checked_add(4)?)? != NO_BITS {
            let (offset, size) = (number::<8>(image, header + 24)?, number::<8>(image, header + 32)?);
            end = end.max(offset.checked_add(size)?);
        }
    }
    Some(end)
}

/// Returns the size of the header and of the code that follows it.
fn fat_size(image: &[u8]) -> Option<u64> {
    let (header, code) = (number::<2>(image, 6)?, number::<8>(image, 8)?);
    header.max(16).checked_add(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fat binary with `code` bytes of code, and as many as the header says.
    fn fat(code: usize, said: u64) -> Vec<u8> {
        let mut image = [&FAT[..], &[1, 0, 16, 0], &said.to_le_bytes()].concat();
        image.resize(16 + code, 7);
        image
    }

    /// A cubin with one section of `said` bytes after the headers, and `size` bytes in all.
    fn cubin(size: usize, said: u64) -> Vec<u8> {
        let mut image = vec![0; 128];
        image[..6].copy_from_slice(&ELF);
        image[40] = 64; // the table of sections
        image[58] = 64; // the size of its entry
        image[60] = 1;
        image[64 + 4] = 1; // a section with bytes in the file
        image[64 + 24] = 128;
        image[64 + 32..64 + 40].copy_from_slice(&said.to_le_bytes());
        image.resize(size, 0);
        image
    }

    #[test]
    fn images_that_are_cut_off_are_no_images() {
        for (image, expected) in [
            (fat(100, 100), true),
            (fat(101, 100), true),
            (fat(99, 100), false),
            (fat(100, u64::MAX), false),
            (cubin(200, 72), true),
            (cubin(199, 72), false),
            (cubin(200, u64::MAX), false),
            (cubin(100, 0), false),
            (b"\x7fELF\x02\x01".to_vec(), false),
            (FAT.to_vec(), false),
            (b".version 7.0".to_vec(), false),
            (Vec::new(), false),
        ] {
            assert_eq!(is_whole(&image), expected, "{} bytes: {:?}", image.len(), &image[..image.len().min(16)]);
        }
    }
}

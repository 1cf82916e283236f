//! [`Element`]: the types that a buffer can hold, and the check of elements that the host reads.

use crate::device::error::DeviceError;
use bytemuck::{CheckedBitPattern, NoUninit, Zeroable};
use std::any::{TypeId, type_name};
use std::mem::ManuallyDrop;

/// A type whose values a buffer can hold: a number, an array of numbers, `bool`, `char`, or a type of the program that
/// derives the two traits of `bytemuck` beneath.
///
/// | direction | condition | reason |
/// |---|---|---|
/// | from the host to the device | [`NoUninit`]: no byte of a value is padding | the copy reads every byte of the values |
/// | from the device to the host | [`CheckedBitPattern`]: the type can check whether bytes are a value | a kernel may have written any bytes, and a `bool` with the byte 2 would be undefined behaviour |
///
/// The check follows from the type. For a type in which every bit pattern is a value ([`AnyBitPattern`] or [`Pod`],
/// for example `f32`), nothing is checked, and a copy to the host writes directly to its target. For another type, for
/// example `bool`, each read checks every element, and returns [`DeviceError::InvalidElement`] with the index of the
/// first one that is not a value.
///
/// Functions that create zero bytes, for example [`Buffer::zeroed`](crate::Buffer::zeroed), also need [`Zeroable`].
///
/// All types that satisfy both conditions implement this trait; there is nothing to implement by hand. A type of the
/// program derives `Pod` and `Zeroable`, or, if not every bit pattern is a value, `NoUninit` and `CheckedBitPattern`.
/// This library re-exports the crate as `cumem::bytemuck`, with the derive macros.
///
/// [`Pod`]: bytemuck::Pod
/// [`AnyBitPattern`]: bytemuck::AnyBitPattern
///
/// # Examples
///
/// ```
/// use cumem::bytemuck::{CheckedBitPattern, NoUninit, Pod, Zeroable};
/// # use cumem::sim::Profile;
/// # use cumem::{Buffer, CudaResource, Device, DeviceError, Stream};
///
/// #[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
/// #[bytemuck(crate = "cumem::bytemuck")]
/// #[repr(C)]
/// struct Particle {
///     position: [f32; 3],
///     charge: f32,
/// }
///
/// #[derive(Debug, Clone, Copy, PartialEq, NoUninit, CheckedBitPattern)]
/// #[bytemuck(crate = "cumem::bytemuck")]
/// #[repr(u8)]
/// enum State {
///     Free = 1,
///     Taken = 2,
/// }
///
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// let memory = CudaResource::new(&device);
/// let electron = Particle { position: [0.0; 3], charge: -1.0 };
/// let particles = Buffer::from_slice(&[electron], &stream, &memory)?;
/// assert_eq!(particles.get(0)?, electron);
///
/// let mut states = Buffer::from_slice(&[State::Free, State::Taken], &stream, &memory)?;
/// assert_eq!(states.to_vec()?, [State::Free, State::Taken]);
/// states.as_bytes_mut().set(1, 7)?; // as a kernel could
/// assert!(matches!(states.to_vec(), Err(DeviceError::InvalidElement { index: 1, .. })));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an element of a buffer",
    label = "not an `Element`",
    note = "derive `bytemuck::Pod` and `bytemuck::Zeroable` if every bit pattern is a value of the type",
    note = "otherwise derive `bytemuck::NoUninit` and `bytemuck::CheckedBitPattern`"
)]
pub trait Element: NoUninit + CheckedBitPattern {}

#[diagnostic::do_not_recommend]
impl<T: NoUninit + CheckedBitPattern> Element for T {}

/// Reports whether every bit pattern is a value of `T`.
///
/// `bytemuck` gives each type with that property itself as its `Bits`. No other type can have itself there, because
/// `Bits` must be `AnyBitPattern`.
pub(super) fn any_bits<T: Element>() -> bool {
    TypeId::of::<T>() == TypeId::of::<T::Bits>()
}

/// Checks that all of these bit patterns are values of `T`.
pub(super) fn check<T: Element>(bits: &[T::Bits]) -> Result<(), DeviceError> {
    // All values of a type without bytes have the same bits.
    let bits = if size_of::<T>() == 0 { &bits[..bits.len().min(1)] } else { bits };
    match if any_bits::<T>() { None } else { bits.iter().position(|bits| !T::is_valid_bit_pattern(bits)) } {
        None => Ok(()),
        Some(index) => Err(DeviceError::InvalidElement { index, element: type_name::<T>() }),
    }
}

/// Returns the value with these bits, which were read from element `index`.
pub(super) fn from_bits<T: Element>(index: usize, bits: T::Bits) -> Result<T, DeviceError> {
    if !T::is_valid_bit_pattern(&bits) {
        return Err(DeviceError::InvalidElement { index, element: type_name::<T>() });
    }
    // SAFETY: `CheckedBitPattern` promises that `T` has the layout of its bits, and these were checked.
    Ok(unsafe { std::mem::transmute_copy(&bits) })
}

/// Returns `len` elements that `copy` writes, after the check, and the result of `copy`.
pub(super) fn read_vec<T: Element, C>(
    len: usize,
    copy: impl FnOnce(&mut [T::Bits]) -> Result<C, DeviceError>,
) -> Result<(Vec<T>, C), DeviceError> {
    let mut bits = vec![T::Bits::zeroed(); len];
    let copied = copy(&mut bits)?;
    check::<T>(&bits)?;
    let mut bits = ManuallyDrop::new(bits);
    // SAFETY: `CheckedBitPattern` promises that `T` has the layout of its bits, so the allocation fits. All bits were
    // checked.
    let elements = unsafe { Vec::from_raw_parts(bits.as_mut_ptr().cast(), len, bits.capacity()) };
    Ok((elements, copied))
}

/// Reads into `data` the elements that `copy` writes, and returns the result of `copy`. After a failed check, `data` is
/// unchanged.
pub(super) fn read_slice<T: Element, C>(
    data: &mut [T],
    copy: impl FnOnce(&mut [T::Bits]) -> Result<C, DeviceError>,
) -> Result<C, DeviceError> {
    if any_bits::<T>() {
        // SAFETY: the types are the same.
        return copy(unsafe { std::slice::from_raw_parts_mut(data.as_mut_ptr().cast(), data.len()) });
    }
    let (elements, copied) = read_vec(data.len(), copy)?;
    data.copy_from_slice(&elements);
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZero;

    #[test]
    fn only_types_with_invalid_values_are_checked() {
        assert!(any_bits::<f32>() && any_bits::<[u8; 3]>() && any_bits::<()>());
        assert!(!any_bits::<bool>() && !any_bits::<char>() && !any_bits::<NonZero<u32>>());
        assert_eq!(check::<bool>(&[0, 1, 1]), Ok(()));
        assert_eq!(check::<bool>(&[0, 2, 3]), Err(DeviceError::InvalidElement { index: 1, element: "bool" }));
        assert_eq!(check::<()>(&[(); 1 << 40]), Ok(()));
    }

    #[test]
    fn a_slice_is_unchanged_after_a_failed_check() {
        let mut data = [true, true];
        let read = read_slice(&mut data, |bits: &mut [u8]| {
            bits.copy_from_slice(&[0, 9]);
            Ok(())
        });
        assert_eq!((read.is_err(), data), (true, [true, true]));
    }
}

//! [`POISON`]: the contents of fresh memory.

/// The pattern that fresh simulated memory holds. Read as `f32` or `f64` it is a NaN; in half precision every second
/// value is a NaN. As an integer it is no small number.
///
/// # Examples
///
/// ```
/// use cumem_driver::Driver;
/// use cumem_sim::{POISON, Profile, Simulator};
///
/// let sim = Simulator::new([Profile::h100_pcie5()])?;
/// let memory = sim.allocate_pinned(0, 4)?;
/// // SAFETY: the memory is live and initialized, and nothing writes to it.
/// assert_eq!(unsafe { memory.cast::<[u8; 4]>().read() }, POISON);
/// assert!(f32::from_ne_bytes(POISON).is_nan());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub const POISON: [u8; 4] = [0xA5, 0xA5, 0xF5, 0x7F];

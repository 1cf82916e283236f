//! The driver's functions. Each is a jump through a slot of one table.
//!
//! A slot first holds the address of `cumem_libcuda_lazy` (lazy.rs), which fills the table and then jumps to the address
//! that the slot holds now. Each function leaves the address of its
//! slot in a scratch register (r11, x16), so that one `cumem_libcuda_lazy` serves all functions.

use std::ffi::c_void;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::library::Library;
use crate::symbols::symbols;

#[cfg(not(all(
    target_os = "linux",
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!(
    "cumem-libcuda supports Linux on x86-64 and AArch64 only; on other systems, build cumem without the feature `cuda`"
);

/// The error code that a function returns if no driver could be loaded.
const SHARED_OBJECT_INIT_FAILED: u32 = 303;
/// The error code that a function returns if the driver lacks its symbol.
const NOT_FOUND: u32 = 500;

// The body of the function `$name`.
#[cfg(target_arch = "x86_64")]
macro_rules! jump {
    ($name:literal) => {
        concat!("endbr64\nlea r11, [rip + .Lslot_", $name, "]\njmp [r11]")
    };
}

// The load has acquire order, so that everything that loading the driver wrote is visible to the function.
#[cfg(target_arch = "aarch64")]
macro_rules! jump {
    ($name:literal) => {
        concat!(
            "hint #34\nadrp x16, .Lslot_",
            $name,
            "\nadd x16, x16, :lo12:.Lslot_",
            $name,
            "\nldar x17, [x16]\nbr x17"
        )
    };
}

// The symbols are hidden: this program's calls use them, but they do not replace the driver's symbols in other
// libraries.
macro_rules! define {
    ($($name:literal)*) => {
        /// The names of the functions that this crate defines: all that `cust_raw` 0.11.3 declares.
        ///
        /// ```
        /// assert!(cumem_libcuda::SYMBOLS.contains(&"cuMemAlloc_v2"));
        /// ```
        pub const SYMBOLS: &[&str] = &[$($name),*];

        std::arch::global_asm!(
            ".pushsection .data.rel.cumem_libcuda, \"aw\", @progbits",
            ".balign 8",
            ".globl cumem_libcuda_table",
            ".hidden cumem_libcuda_table",
            "cumem_libcuda_table:",
            ".popsection",
            ".pushsection .text.cumem_libcuda, \"ax\", @progbits",
            $(concat!(
                ".pushsection .data.rel.cumem_libcuda, \"aw\", @progbits\n",
                ".Lslot_", $name, ": .quad cumem_libcuda_lazy\n",
                ".popsection\n",
                ".balign 16\n",
                ".globl ", $name, "\n.hidden ", $name, "\n.type ", $name, ", @function\n",
                $name, ":\n",
                jump!($name),
                "\n.size ", $name, ", . - ", $name,
            ),)*
            ".popsection",
        );
    };
}

symbols!(define);

// SAFETY: the table is defined above. It has one pointer-sized slot for each symbol, and each slot holds an address.
unsafe extern "C" {
    #[link_name = "cumem_libcuda_table"]
    safe static TABLE: [AtomicPtr<c_void>; SYMBOLS.len()];
}

// Makes the linker include the object that holds the functions, in whichever order the libraries are linked.
#[used]
static KEEP: &[AtomicPtr<c_void>; SYMBOLS.len()] = &TABLE;

/// Sets every slot to the driver's function, or to a function that returns an error code.
pub(crate) fn fill(library: Option<&Library>) {
    for (slot, name) in TABLE.iter().zip(SYMBOLS) {
        let function = match library.map(|library| library.symbol(name)) {
            Some(Ok(function)) => function.as_ptr(),
            Some(Err(_)) => not_found as *mut c_void,
            None => no_driver as *mut c_void,
        };
        slot.store(function, Ordering::Release);
    }
}

extern "C" fn not_found() -> u32 {
    NOT_FOUND
}

extern "C" fn no_driver() -> u32 {
    SHARED_OBJECT_INIT_FAILED
}

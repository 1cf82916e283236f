//! [`Opened`]: an open stack, which its Python objects share.

use crate::failure::Failure;
use cumem::error::Plural;
use cumem::kind::{Erased, Host, Managed};
use cumem::{AllocError, AnyResource, Buffer, Device, Layer, MemoryResource, Stream, layout};
use cumem_adaptors::{AnyStack, ByAddress, StackSpec};
use cumem_c::{CumemError, CumemFormat, CumemStack, CumemStatus};
use std::ffi::{CStr, c_int};
use std::ptr;

/// Memory of a stack.
pub(crate) enum Bytes {
    /// Memory that the device can access.
    Device(Buffer<u8, AnyResource<Erased>>),
    /// Managed memory.
    Managed(Buffer<u8, AnyResource<Managed>>),
    /// Ordinary host memory.
    Host(Buffer<u8, AnyResource<Host>>),
}

/// Does the same for each variant of [`Bytes`].
macro_rules! with_bytes {
    ($bytes:expr, $buffer:ident => $do:expr) => {
        match $bytes {
            $crate::opened::Bytes::Device($buffer) => $do,
            $crate::opened::Bytes::Managed($buffer) => $do,
            $crate::opened::Bytes::Host($buffer) => $do,
        }
    };
}
pub(crate) use with_bytes;

#[derive(Debug)]
enum Memory {
    Device(AnyResource<Erased>),
    Managed(AnyResource<Managed>),
    Host(AnyResource<Host>),
}

/// The kind of a stack's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Device,
    Managed,
    Pinned,
    Host,
    Either,
}

impl Kind {
    fn of(stack: &AnyStack) -> Self {
        match stack {
            AnyStack::OverDevice(_) => Self::Device,
            AnyStack::OverManaged(_) => Self::Managed,
            AnyStack::OverPinned(_) => Self::Pinned,
            AnyStack::OverHost(_) => Self::Host,
            AnyStack::OverEither(_) => Self::Either,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Managed => "managed",
            Self::Pinned => "pinned",
            Self::Host => "host",
            Self::Either => "either",
        }
    }

    pub(crate) fn is_host_accessible(self) -> bool {
        matches!(self, Self::Managed | Self::Pinned | Self::Host)
    }

    pub(crate) fn is_device_accessible(self) -> bool {
        self != Self::Host
    }
}

/// An open stack. It is closed when the last Python object that uses it is gone.
#[derive(Debug)]
pub(crate) struct Opened {
    memory: Memory,
    pub(crate) kind: Kind,
    pub(crate) device: Device,
    /// The stream of calls that name none.
    pub(crate) default: Stream,
    handle: Handle,
}

/// A handle of the C interface.
#[derive(Debug)]
struct Handle {
    number: usize,
    /// Whether the handle is closed with this value.
    owned: bool,
}

impl Opened {
    pub(crate) fn open(text: &str, device: &Device) -> Result<Self, Failure> {
        let spec = StackSpec::parse(text)?;
        let handle = cumem_c::rust::open_stack(&spec, device)??;
        Self::over(Handle { number: handle.addr(), owned: true })
    }

    /// Wraps the default stack of a device, on which PyTorch's functions work.
    pub(crate) fn default_of(ordinal: i32) -> Result<Self, Failure> {
        let mut error = Box::new(CumemError::NONE);
        let mut handle = ptr::null_mut();
        // SAFETY: both pointers refer to values of this function.
        match unsafe { cumem_c::cumem_stack_default(ordinal, &raw mut handle, &raw mut *error) } {
            CumemStatus::Success => Self::over(Handle { number: handle.addr(), owned: false }),
            _ => Err(error.into()),
        }
    }

    fn over(handle: Handle) -> Result<Self, Failure> {
        // SAFETY: the handle was opened by the caller, who does not close it meanwhile.
        let (memory, device) = unsafe { cumem_c::rust::parts_of(ptr::without_provenance_mut(handle.number)) }?;
        let (stack, device) = (memory.upstream().clone(), device.clone());
        let (kind, default) = (Kind::of(&stack), Stream::legacy_default(&device));
        let memory = match stack {
            AnyStack::OverHost(host) => Memory::Host(host),
            AnyStack::OverManaged(managed) => Memory::Managed(managed),
            AnyStack::OverDevice(stack) => Memory::Device(AnyResource::erase_kind(stack)),
            AnyStack::OverPinned(stack) => Memory::Device(AnyResource::erase_kind(stack)),
            AnyStack::OverEither(stack) => Memory::Device(stack),
        };
        Ok(Self { memory, kind, device, default, handle })
    }

    /// Returns the handle of the C interface.
    pub(crate) fn handle(&self) -> *mut CumemStack {
        ptr::without_provenance_mut(self.handle.number)
    }

    /// Returns the stack of the C interface.
    pub(crate) fn by_address(&self) -> Result<&ByAddress<AnyStack>, Failure> {
        // SAFETY: the handle of this value stays open while this value exists. C code that closes it promises that
        // nothing uses it.
        Ok(unsafe { cumem_c::rust::parts_of(self.handle()) }?.0)
    }

    /// Calls a function of the C interface with this stack.
    pub(crate) fn call(
        &self,
        function: impl FnOnce(*mut CumemStack, *mut CumemError) -> CumemStatus,
    ) -> Result<(), Failure> {
        let mut error = Box::new(CumemError::NONE);
        match function(self.handle(), &raw mut *error) {
            CumemStatus::Success => Ok(()),
            _ => Err(error.into()),
        }
    }

    /// Returns all memory of the stack's pools as text or JSON.
    pub(crate) fn snapshot(&self, is_json: bool) -> Result<String, Failure> {
        let format = if is_json { CumemFormat::Json } else { CumemFormat::Text } as c_int;
        let mut text = ptr::null_mut();
        // SAFETY: the handle is open while this value exists, and the pointers refer to values of this function.
        self.call(|handle, error| unsafe { cumem_c::cumem_snapshot(handle, format, &raw mut text, error) })?;
        // SAFETY: the function has returned a text that ends with 0.
        let copied = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
        // SAFETY: the text comes from the library, and is not used any more.
        unsafe { cumem_c::cumem_text_free(text) };
        Ok(copied)
    }

    /// Returns an error if memory of the stack is in use, by `users` objects of Python or by blocks with an address only.
    pub(crate) fn check_unused(&self, users: usize) -> Result<(), Failure> {
        let raw = if self.handle.owned { self.by_address()?.released() } else { 0 };
        let live = match (users, raw) {
            (0, 0) => return Ok(()),
            (0, raw) => Plural(raw, "block").to_string() + " of allocate_raw, C or PyTorch",
            (users, 0) => Plural(users, "buffer, scope or call").to_string(),
            (users, raw) => format!("{} and {}", Plural(users, "buffer, scope or call"), Plural(raw, "raw block")),
        };
        Err(Failure::Busy(format!("the stack is in use by {live}; close or free them first")))
    }

    /// Returns the layers, outermost first.
    pub(crate) fn layers(&self) -> &dyn Layer {
        match &self.memory {
            Memory::Device(stack) => stack,
            Memory::Managed(stack) => stack,
            Memory::Host(stack) => stack,
        }
    }

    pub(crate) fn text(&self) -> String {
        match &self.memory {
            Memory::Device(stack) => stack.to_string(),
            Memory::Managed(stack) => stack.to_string(),
            Memory::Host(stack) => stack.to_string(),
        }
    }

    /// Allocates bytes whose values are unspecified.
    pub(crate) fn allocate(&self, size: usize, stream: &Stream) -> Result<Bytes, Failure> {
        self.try_allocate(size, stream).map_err(|error| Failure::Alloc(error, self.kind.name()))
    }

    fn try_allocate(&self, size: usize, stream: &Stream) -> Result<Bytes, AllocError> {
        Ok(match &self.memory {
            // SAFETY: every value of a byte is valid. The memory comes from the driver or the operating system, so reading
            // a byte that was never written returns some value.
            Memory::Device(stack) => Bytes::Device(unsafe { Buffer::uninit(size, stream, stack.clone()) }?),
            // SAFETY: as above.
            Memory::Managed(stack) => Bytes::Managed(unsafe { Buffer::uninit(size, stream, stack.clone()) }?),
            Memory::Host(stack) => {
                let block = stack.allocate(stream, layout::bytes(size)?)?;
                // SAFETY: the resource has just returned the block. The bytes are valid as above.
                let buffer = unsafe { Buffer::from_block(block, size, stream, stack.clone()) };
                Bytes::Host(buffer.map_err(|refused| AllocError::Device(refused.reason))?)
            }
        })
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if self.handle.owned {
            // SAFETY: no Python object uses the stack any more. A stack with blocks that C code has stays open.
            unsafe { cumem_c::cumem_stack_close(self.handle(), ptr::null_mut()) };
        }
    }
}

/// Memory that a stack did not free.
pub(crate) struct Unfreed {
    /// `None` if no buffer can hold the memory again. It then stays live.
    pub(crate) bytes: Option<Bytes>,
    pub(crate) reason: Failure,
}

impl Unfreed {
    pub(crate) fn new(bytes: Option<Bytes>, reason: impl Into<Failure>) -> Box<Self> {
        Box::new(Self { bytes, reason: reason.into() })
    }
}

/// Frees memory. If the stack refuses, returns the memory with the reason.
pub(crate) fn free(bytes: Bytes) -> Result<(), Box<Unfreed>> {
    macro_rules! free {
        ($buffer:expr, $variant:path) => {{
            let parts = $buffer.into_block().map_err(|refused| Unfreed::new(Some($variant(refused.value)), refused.reason))?;
            // SAFETY: the buffer was over this block of this resource, and is gone. The stream is ordered after its work.
            let freed = unsafe { parts.resource.deallocate(&parts.stream, parts.block) };
            freed.map_err(|refused| {
                let failure = Failure::Refused(crate::failure::line(&refused));
                // SAFETY: the resource returned the block, which is live.
                let again = unsafe { Buffer::from_block(refused.block, parts.len, &parts.stream, parts.resource) };
                Unfreed::new(again.ok().map($variant), failure)
            })
        }};
    }
    match bytes {
        Bytes::Device(buffer) => free!(buffer, Bytes::Device),
        Bytes::Managed(buffer) => free!(buffer, Bytes::Managed),
        Bytes::Host(buffer) => free!(buffer, Bytes::Host),
    }
}

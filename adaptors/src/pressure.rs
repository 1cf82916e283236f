//! [`Pressure`] gives memory back, and then refuses, as the device fills up.

mod options;
mod state;

pub use options::{PressureError, PressureOptions};
pub use state::{PressureLevel, PressureState};

use cumem::{AllocError, Beneath, Block, DeallocError, Layer, LayerExt, MemoryResource, Stream, TrimError, Upstream};
use std::alloc::Layout;
use std::any::Any;
use std::error::Error;
use std::fmt;

/// Watches how full the device is, whoever fills it, and acts in steps: it has what is kept unused given back, and
/// then refuses.
///
/// | level | entered at | left below | what happens |
/// |---|---|---|---|
/// | normal | | | |
/// | trim | `trim_at` bytes in use | `trim_at` less the slack | the upstream's memory is trimmed, once on entering |
/// | refuse | `refuse_at` bytes in use | `refuse_at` less the slack | after another trim, allocations fail with [`AllocError::LimitExceeded`] |
///
/// A [`Spill`](crate::Spill) over it turns refusals into blocks of another kind of memory; that is the step between
/// the two.
///
/// The device is asked for its free memory (`cuMemGetInfo`) after so many bytes were allocated as the options say,
/// and when the upstream has run out: then it is trimmed, whatever the level, and asked once more. Each change of
/// level, each trim and each series of refusals is an event through `tracing` with its numbers.
///
/// `find::<PressureState>()` reaches its [`PressureState`] in any stack.
pub struct Pressure<U> {
    state: PressureState,
    trim: Option<Trim<U>>,
    upstream: U,
}

/// Gives back what `U` keeps unused. Bytes given back.
type Trim<U> = Box<dyn Fn(&U) -> Result<usize, Box<dyn Error + Send + Sync>> + Send + Sync>;

impl<U> Pressure<U> {
    /// Watches the upstream's device, and has everything given back that the layers beneath keep unused
    /// ([`LayerExt::trim_stack`]).
    ///
    /// # Errors
    ///
    /// [`PressureError`] if the levels are in no order, or what the driver answers when it is asked for the free
    /// memory.
    pub fn new(upstream: U, options: PressureOptions) -> Result<Self, PressureError>
    where
        U: Upstream,
    {
        let state = PressureState::new(upstream.device(), options)?;
        Ok(Self { state, trim: None, upstream })
    }

    /// Has memory given back by `trim` instead, which answers how many bytes: to keep some of it, or to reach what is
    /// not beneath.
    #[must_use]
    pub fn trimming(
        self,
        trim: impl Fn(&U) -> Result<usize, Box<dyn Error + Send + Sync>> + Send + Sync + 'static,
    ) -> Self {
        Self { trim: Some(Box::new(trim)), ..self }
    }

    /// What it draws from.
    pub fn upstream(&self) -> &U {
        &self.upstream
    }

    /// The level, and what was done. (`pressure` is the method that makes one.)
    pub fn get_pressure(&self) -> &PressureState {
        &self.state
    }
}

impl<U: Layer> Pressure<U> {
    fn trim(&self) -> usize {
        let trimmed = match &self.trim {
            Some(trim) => trim(&self.upstream),
            None => self.upstream.trim_stack(0).map_err(Into::into),
        };
        // What could not be given back is still the upstream's; some may have been.
        let bytes = trimmed.unwrap_or_else(|error| {
            tracing::warn!(%error, "memory could not be given back under pressure");
            error.downcast_ref().map_or(0, |error: &TrimError| error.trimmed)
        });
        if bytes > 0 {
            self.state.trimmed(bytes);
        }
        bytes
    }
}

impl<U: Layer> Layer for Pressure<U> {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.describe(f)
    }
    fn beneath(&self) -> Beneath<'_> {
        Beneath::Layer(&self.upstream)
    }
    fn state(&self) -> &dyn Any {
        &self.state
    }
    fn trim_layer(&self, _keep: usize) -> Result<usize, TrimError> {
        Ok(0)
    }
}

// SAFETY: every block is the upstream's, handed on unchanged.
unsafe impl<U: Upstream> MemoryResource for Pressure<U> {
    type Kind = U::Kind;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let bytes = layout.size();
        if self.state.is_due(bytes) {
            self.state.measure(|| self.trim())?;
        }
        self.state.admit(bytes)?;
        match self.upstream.allocate(stream, layout) {
            Err(error) if error.is_out_of_memory() && self.trim() > 0 => {
                self.state.measure(|| 0)?;
                self.upstream.allocate(stream, layout)
            }
            allocated => allocated,
        }
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        // SAFETY: this method's contract is the upstream's.
        unsafe { self.upstream.deallocate(stream, block) }
    }
}

impl<U: Upstream> Upstream for Pressure<U> {}

impl<U: Layer> fmt::Display for Pressure<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        cumem::layer::fmt_stack(self, f)
    }
}

impl<U: fmt::Debug> fmt::Debug for Pressure<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pressure").field("state", &self.state).field("upstream", &self.upstream).finish_non_exhaustive()
    }
}

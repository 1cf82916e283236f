//! Calls that reserve addresses and map device memory behind them.

use super::cost::ns;
use super::injection::FaultCall;
use super::machine::{Machine, StateGuard};
use super::profile::Profile;
use super::state::{Freed, Until};
use cumem_driver::{CudaErrorCode, DriverError};
use std::ptr::NonNull;

impl Machine {
    pub(super) fn mapping_granularity(&self, d: u32) -> Result<usize, DriverError> {
        let call = "cuMemGetAllocationGranularity";
        let state = self.begin_mapping_call(d, FaultCall::Query, call, |p| ns(p.call_query))?;
        Ok(state.profile(d).large_granule.value as usize)
    }

    pub(super) fn reserve_addresses(&self, d: u32, bytes: u64) -> Result<NonNull<u8>, DriverError> {
        let call = "cuMemAddressReserve";
        let mut state = self.begin_mapping_call(d, FaultCall::Reserve, call, |p| ns(p.call_reserve))?;
        self.whole_granules(&state, d, call, bytes)?;
        let base = state.memory.reserve(d, bytes);
        let base = base.and_then(|base| NonNull::new(base as *mut u8));
        base.ok_or_else(|| state.code(d, call, CudaErrorCode::OUT_OF_MEMORY))
    }

    pub(super) fn release_addresses(&self, d: u32, addr: u64, bytes: u64) -> Result<(), DriverError> {
        let call = "cuMemAddressFree";
        let mut state = self.begin_mapping_call(d, FaultCall::Reserve, call, |p| ns(p.call_reserve))?;
        // The closure of a kernel may have freed what is mapped there, after its work.
        if state.must_free_late(Until::All) && !state.frees.is_empty() {
            state.free_later(addr, Freed::Addresses(d, bytes), Until::All);
            return Ok(());
        }
        match state.memory.unreserve(d, addr, bytes) {
            true => Ok(()),
            false => Err(state.code(d, call, CudaErrorCode::INVALID_VALUE)),
        }
    }

    pub(super) fn map(&self, d: u32, addr: u64, bytes: u64) -> Result<(), DriverError> {
        let call = "cuMemCreate";
        let mut state = self.begin_mapping_call(d, FaultCall::Map, call, |p| ns(p.call_map))?;
        self.whole_granules(&state, d, call, bytes)?;
        self.whole_granules(&state, d, call, addr)?;
        if !state.memory.can_map(d, addr, bytes) {
            return Err(state.code(d, "cuMemMap", CudaErrorCode::INVALID_VALUE));
        }
        state.take_room(d, bytes).map_err(|code| state.code(d, call, code))?;
        let Some(serial) = state.memory.map(addr, bytes) else {
            state.space.give_plain(d, bytes);
            return Err(state.code(d, "cuMemMap", CudaErrorCode::OUT_OF_MEMORY));
        };
        state.record_allocation(serial, bytes);
        state.race_allocated(None, call, addr, bytes);
        Ok(())
    }

    /// Maps pieces of memory a second time, at `addr`. The call takes as much simulated time as mapping new memory in
    /// as many pieces, which is more than on an H100 (`benches/README.md`).
    pub(super) fn map_again(&self, d: u32, addr: u64, pieces: &[(u64, u64)]) -> Result<(), DriverError> {
        let call = "cuMemMap";
        let mut state = self.begin_mapping_call(d, FaultCall::Map, call, |p| ns(p.call_map) * pieces.len() as u64)?;
        if !pieces.iter().all(|&(piece, bytes)| state.memory.is_piece(d, piece, bytes)) {
            return Err(state.code(d, "cuMemRetainAllocationHandle", CudaErrorCode::INVALID_VALUE));
        }
        let bytes = pieces.iter().map(|(_, bytes)| bytes).sum();
        self.whole_granules(&state, d, call, bytes)?;
        self.whole_granules(&state, d, call, addr)?;
        if !state.memory.can_map(d, addr, bytes) {
            return Err(state.code(d, call, CudaErrorCode::INVALID_VALUE));
        }
        if !state.memory.map_again(addr, pieces) {
            return Err(state.code(d, call, CudaErrorCode::OUT_OF_MEMORY));
        }
        state.journal.mix(bytes);
        state.race_allocated(None, call, addr, bytes);
        Ok(())
    }

    pub(super) fn can_access_peer(&self, d: u32, peer: u32) -> Result<bool, DriverError> {
        let state = self.begin_query(d, "cuDeviceCanAccessPeer")?;
        match state.profiles.get(peer as usize) {
            Some(profile) => Ok(peer == d || (profile.peer_access && state.profile(d).peer_access)),
            None => Err(state.code(d, "cuDeviceCanAccessPeer", CudaErrorCode::INVALID_DEVICE)),
        }
    }

    /// Lets device `peer` access whole pieces.
    pub(super) fn set_access(&self, d: u32, addr: u64, bytes: u64, peer: u32) -> Result<(), DriverError> {
        let call = "cuMemSetAccess";
        let reachable = self.can_access_peer(d, peer)?;
        let mut state = self.begin_mapping_call(d, FaultCall::Map, call, |p| ns(p.call_query))?;
        let pieces = state.memory.pieces(d, addr, bytes).filter(|_| reachable);
        let pieces = pieces.ok_or_else(|| state.code(d, call, CudaErrorCode::INVALID_VALUE))?;
        pieces.into_iter().for_each(|piece| state.memory.open_to(piece, peer));
        Ok(())
    }

    /// Unmaps a range of whole pieces. Enqueued work that still uses them fails.
    /// Returns an error if a piece has an alias: a real device would keep its memory,
    /// but the caller would believe it free.
    ///
    /// # Safety
    ///
    /// The caller must ensure that nothing but enqueued work uses the memory any more.
    pub(super) unsafe fn unmap(&self, d: u32, addr: u64, bytes: u64) -> Result<(), DriverError> {
        let call = "cuMemUnmap";
        let mut state = self.begin_mapping_call(d, FaultCall::Free, call, |_| 0)?;
        let pieces = state.memory.pieces(d, addr, bytes).filter(|pieces| !pieces.is_empty());
        let pieces = pieces.ok_or_else(|| state.code(d, call, CudaErrorCode::INVALID_VALUE))?;
        if let Some((piece, alias)) = pieces.iter().find_map(|&at| Some((at, state.memory.alias_of(at)?))) {
            let message = format!("the memory mapped at {piece:#x} was to be freed, and is mapped at {alias:#x} too");
            return Err(state.simulation(d, message));
        }
        state.now += ns(state.profile(d).call_unmap) * pieces.len() as u64;
        if state.must_free_late(Until::All) {
            // The library waits before it unmaps memory, which the closure of a kernel cannot do.
            for piece in pieces {
                let serial = state.memory.at(piece).map_or(0, |found| found.serial);
                state.free_later(piece, Freed::Memory(serial), Until::All);
            }
            return Ok(());
        }
        for piece in pieces {
            // SAFETY: operations check that their pieces exist before they use them;
            // the caller ensures that nothing else uses them.
            unsafe { state.release(call, piece) };
        }
        Ok(())
    }

    fn begin_mapping_call(
        &self,
        d: u32,
        kind: FaultCall,
        call: &'static str,
        cost: impl Fn(&Profile) -> u64,
    ) -> Result<StateGuard<'_>, DriverError> {
        let state = self.begin_call(d, kind, call, cost)?;
        match state.profile(d).virtual_memory_management {
            true => Ok(state),
            false => Err(DriverError::NotSupported { what: "virtual memory management", device: self.device_id(d) }),
        }
    }

    fn whole_granules(&self, state: &StateGuard<'_>, d: u32, call: &'static str, n: u64) -> Result<(), DriverError> {
        match n > 0 && n.is_multiple_of(state.profile(d).large_granule.value as u64) {
            true => Ok(()),
            false => Err(state.code(d, call, CudaErrorCode::INVALID_VALUE)),
        }
    }
}

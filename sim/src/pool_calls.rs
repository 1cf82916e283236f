//! Calls that find, create and open stream-ordered pools.

use super::cost::ns;
use super::handles::Key;
use super::injection::FaultCall;
use super::machine::{Machine, StateGuard};
use super::pools::DriverPool;
use super::profile::Profile;
use super::state::MachineState;
use super::uvm::HOST_NUMA_NODES;
use cumem_driver::{CudaErrorCode, DriverError, PoolHandle, PoolMemory, PoolProperties, RawPool};

impl MachineState {
    /// Returns the pool of device `d` behind a handle.
    pub(super) fn pool(
        &mut self,
        d: u32,
        pool: RawPool,
        call: &'static str,
    ) -> Result<(Key, &mut DriverPool), DriverError> {
        let bad = self.code(d, call, CudaErrorCode::INVALID_VALUE);
        let key = Key::from_handle(pool.0).ok_or_else(|| bad.clone())?;
        let found = self.pools.get_mut(key).filter(|pool| pool.device == d && !pool.closing);
        found.map(|pool| (key, pool)).ok_or(bad)
    }

    /// Checks that the machine has pools of this memory.
    fn has_pools_of(&self, d: u32, call: &'static str, memory: PoolMemory) -> Result<(), DriverError> {
        let profile = self.profile(d);
        let all_concurrent = self.profiles.iter().all(|profile| profile.concurrent_managed_access);
        let has = match memory {
            PoolMemory::Managed => profile.managed_memory_pools && all_concurrent,
            PoolMemory::Host => profile.host_memory_pools,
            PoolMemory::HostNuma(node) if node >= HOST_NUMA_NODES => {
                return Err(self.code(d, call, CudaErrorCode::INVALID_VALUE));
            }
            PoolMemory::HostNuma(_) => profile.host_memory_pools,
            _ => true,
        };
        if has { Ok(()) } else { Err(self.code(d, call, CudaErrorCode::NOT_SUPPORTED)) }
    }
}

impl Machine {
    pub(super) fn default_pool(&self, d: u32, memory: PoolMemory) -> Result<RawPool, DriverError> {
        let call = match memory {
            PoolMemory::Device => "cuDeviceGetDefaultMemPool",
            _ => "cuMemGetDefaultMemPool",
        };
        let mut state = self.begin_pool_call(d, call, |p| ns(p.call_query))?;
        state.has_pools_of(d, call, memory)?;
        let device = &state.devices[d as usize];
        let known = match memory {
            PoolMemory::Device => Some(device.default_pool),
            _ => device.other_pools.iter().find(|(of, _)| *of == memory).map(|(_, key)| *key),
        };
        let key = known.unwrap_or_else(|| {
            let key = state.pools.insert(DriverPool::of_device(d, memory));
            state.device(d).other_pools.push((memory, key));
            key
        });
        Ok(RawPool(key.handle()))
    }

    /// Returns the current pool, which is always the default pool, because the library never sets another one.
    pub(super) fn current_pool(&self, d: u32) -> Result<RawPool, DriverError> {
        let state = self.begin_pool_call(d, "cuDeviceGetMemPool", |p| ns(p.call_query))?;
        Ok(RawPool(state.devices[d as usize].default_pool.handle()))
    }

    pub(super) fn create_pool(&self, d: u32, properties: &PoolProperties) -> Result<RawPool, DriverError> {
        let call = "cuMemPoolCreate";
        let mut state = self.begin_pool_call(d, call, |p| ns(p.call_stream))?;
        state.has_pools_of(d, call, properties.memory)?;
        let exportable = properties.handle.is_in(state.profile(d).pool_handle_types);
        let may_export = !matches!(properties.memory, PoolMemory::Managed | PoolMemory::Host);
        let may_be_limited = properties.memory != PoolMemory::Managed;
        let valid = exportable
            && (may_export || properties.handle == PoolHandle::None)
            && (may_be_limited || properties.maximum == 0);
        match valid {
            true => Ok(RawPool(state.pools.insert(DriverPool::new(d, properties)).handle())),
            false => Err(state.code(d, call, CudaErrorCode::INVALID_VALUE)),
        }
    }

    /// Lets another device access the memory of a pool. In the model, devices with peer access always can.
    pub(super) fn set_pool_access(&self, d: u32, pool: RawPool, peer: u32) -> Result<(), DriverError> {
        let call = "cuMemPoolSetAccess";
        let reachable = self.can_access_peer(d, peer)?;
        let mut state = self.begin_pool_call(d, call, |p| ns(p.call_query))?;
        state.pool(d, pool, call)?;
        if reachable { Ok(()) } else { Err(state.code(d, call, CudaErrorCode::INVALID_DEVICE)) }
    }

    fn begin_pool_call(
        &self,
        d: u32,
        call: &'static str,
        cost: impl Fn(&Profile) -> u64,
    ) -> Result<StateGuard<'_>, DriverError> {
        let state = self.begin_call(d, FaultCall::MemPool, call, cost)?;
        match state.profile(d).memory_pools {
            true => Ok(state),
            false => Err(DriverError::NotSupported { what: "stream-ordered memory pools", device: self.device_id(d) }),
        }
    }
}

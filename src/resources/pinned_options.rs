//! [`PinnedOptions`]: the NUMA node and the pages of pinned memory.
#![forbid(unsafe_code)]

use cumem_driver::{HugePages, PinnedProperties};

/// The NUMA node and the pages of the memory of a [`PinnedResource`](crate::PinnedResource).
///
/// On a machine with several NUMA nodes, copies to and from the node that is closest to the device are the fastest
/// ([`Attributes::host_numa_node`](crate::device::Attributes::host_numa_node)). Huge pages make the table of pages smaller
/// that the driver builds when it pins memory.
///
/// # Examples
///
/// ```
/// use cumem::resources::{HugePages, PinnedOptions};
/// use cumem::sim::Profile;
/// use cumem::{Buffer, Device, PinnedResource, Stream};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let node = device.attributes().host_numa_node.unwrap_or(0);
/// let options = PinnedOptions::new().numa_node(node).huge_pages(HugePages::Transparent);
/// let memory = PinnedResource::with_options(&device, options)?;
/// let numbers = Buffer::from_slice(&[1, 2, 3], &stream, &memory)?;
/// assert_eq!(numbers.to_vec()?, [1, 2, 3]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PinnedOptions {
    numa_node: Option<u32>,
    huge_pages: HugePages,
}

impl PinnedOptions {
    /// Creates options that leave the node and the pages to the system.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::resources::PinnedOptions;
    /// assert_eq!(PinnedOptions::new(), PinnedOptions::default());
    /// ```
    pub const fn new() -> Self {
        Self { numa_node: None, huge_pages: HugePages::No }
    }

    /// Sets the NUMA node that all pages are taken from.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::resources::PinnedOptions;
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, Device, PinnedResource, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?; // its host has one node
    /// let stream = Stream::new(&device)?;
    /// let memory = PinnedResource::with_options(&device, PinnedOptions::new().numa_node(7))?;
    /// let error = Buffer::from_slice(&[1, 2, 3], &stream, &memory).unwrap_err();
    /// assert!(error.to_string().starts_with("mbind on sim"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub const fn numa_node(mut self, node: u32) -> Self {
        self.numa_node = Some(node);
        self
    }

    /// Sets the pages. Each block then takes whole huge pages, so use a pool over the resource.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::resources::{HugePages, PinnedOptions};
    /// use cumem::sim::Profile;
    /// use cumem::{Device, PinnedResource};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let memory = PinnedResource::with_options(&device, PinnedOptions::new().huge_pages(HugePages::Reserved))?;
    /// assert_eq!(memory.to_string(), format!("pinned on {}", device.id()));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub const fn huge_pages(mut self, pages: HugePages) -> Self {
        self.huge_pages = pages;
        self
    }

    /// Reports whether the driver allocates the memory.
    pub(super) fn is_usual(self) -> bool {
        self == Self::new()
    }

    pub(super) fn properties(self) -> PinnedProperties {
        PinnedProperties::new(self.numa_node, self.huge_pages)
    }
}

//! [`Balance`]: two amounts per dimension, and the moves between them.

/// Amounts, one per dimension. For example, bytes and blocks.
pub(crate) type Amounts<const D: usize> = [u64; D];

/// One of the two amounts of a [`Balance`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The headroom: how much may still be allocated.
    Room,
    /// The outstanding amount: how much is allocated and may be freed.
    Out,
}

/// A part of the headroom, and a part of the outstanding amount.
#[derive(Debug, Clone, Copy)]
pub(super) struct Balance<const D: usize> {
    room: Amounts<D>,
    out: Amounts<D>,
}

impl<const D: usize> Balance<D> {
    pub(super) const EMPTY: Self = Self { room: [0; D], out: [0; D] };

    /// Returns a balance of headroom only.
    pub(super) fn of_room(room: Amounts<D>) -> Self {
        Self { room, ..Self::EMPTY }
    }

    #[inline]
    pub(super) fn get(&self, side: Side) -> &Amounts<D> {
        match side {
            Side::Room => &self.room,
            Side::Out => &self.out,
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, side: Side) -> &mut Amounts<D> {
        match side {
            Side::Room => &mut self.room,
            Side::Out => &mut self.out,
        }
    }

    /// Reports whether `side` has `amounts` in every dimension.
    #[inline]
    pub(super) fn covers(&self, side: Side, amounts: &Amounts<D>) -> bool {
        self.get(side).iter().zip(amounts).all(|(has, amount)| has >= amount)
    }

    #[inline]
    pub(super) fn add(&mut self, side: Side, amounts: &Amounts<D>) {
        self.get_mut(side).iter_mut().zip(amounts).for_each(|(has, amount)| *has += amount);
    }

    /// Subtracts `amounts`, which `side` [covers](Self::covers).
    #[inline]
    pub(super) fn subtract(&mut self, side: Side, amounts: &Amounts<D>) {
        self.get_mut(side).iter_mut().zip(amounts).for_each(|(has, amount)| *has -= amount);
    }

    /// Moves from `other` what `side` lacks of `amounts`, and at least one `divisor`-th of what `other` has, so that the
    /// next move is not needed soon. Moves nothing in a dimension that lacks nothing.
    pub(super) fn draw(&mut self, other: &mut Self, side: Side, amounts: &Amounts<D>, divisor: u64) {
        for ((has, others), amount) in self.get_mut(side).iter_mut().zip(other.get_mut(side)).zip(amounts) {
            if *has < *amount {
                let part = (*amount - *has).max(*others / divisor).min(*others);
                *others -= part;
                *has += part;
            }
        }
    }

    /// Moves one `divisor`-th of everything from `other`.
    pub(super) fn draw_share(&mut self, other: &mut Self, divisor: u64) {
        for side in [Side::Room, Side::Out] {
            for (has, others) in self.get_mut(side).iter_mut().zip(other.get_mut(side)) {
                let part = *others / divisor;
                *others -= part;
                *has += part;
            }
        }
    }

    /// Moves everything from `other`.
    pub(super) fn draw_all(&mut self, other: &mut Self) {
        self.draw_share(other, 1);
    }
}

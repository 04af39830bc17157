//! What only a machine with a kernel of its own can show: the first boot with nothing of this machine in it, the limits
//! of containers, a disk that keeps what was written when the power goes.

use crate::builder::Builder;
use crate::first_boot::{boot_to_generation_one, posts};
use crate::machine::Size;

#[test]
fn a_virtual_machine_boots_by_itself_and_keeps_its_promises() {
    let builder = Builder::new(Size::Virtual);
    let (machine, start) = boot_to_generation_one(&builder, Size::Virtual);
    posts(&*machine, 1);
    start.tell("what was posted through 443 is in Postgres");
}

//! Every limit between the node and the processes its models run in, and on the fleet of them.

use std::time::Duration;

use arknet_types::limits::REQUEST_FRAME_BYTES_MAX;

/// Replies of one request that may be on their way or unread. A child that sends more breaks the
/// protocol; a slow reader stops its own generation here and no other.
pub const REPLIES_UNREAD_MAX: u32 = 64;
/// Replies taken before the child is told that there is room again. Half the window: the child
/// never runs dry while a reader keeps up, and a frame goes back only every so many tokens.
pub const CREDIT_STEP: u32 = REPLIES_UNREAD_MAX / 2;
/// Bytes of the setup a child is opened with.
pub const SETUP_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of one frame to a child: a request and what is around it.
pub const FRAME_TO_CHILD_BYTES_MAX: usize = REQUEST_FRAME_BYTES_MAX + 64;
/// Bytes of one frame from a child: a reply, its numbers, or the model with its template.
pub const FRAME_FROM_CHILD_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of the numbers a child tells of itself.
pub const STATS_BYTES_MAX: usize = 256 * 1024;
/// Bytes that wait for a child to read them. Beyond it requests are refused as busy.
pub const UNSENT_BYTES_MAX: usize = 4 * REQUEST_FRAME_BYTES_MAX;
/// How long a child has to tell its numbers.
pub const STATS_TIME_MAX: Duration = Duration::from_secs(1);
/// Models of one fleet.
pub const FLEET_MODELS_MAX: usize = 512;
/// Callers that wait at the same time for one model to be loaded, beside those with requests.
pub const LOADS_WAITING_MAX: usize = 64;

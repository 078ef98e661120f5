//! Every bound of the system, in one place; the unit is in the name.
//!
//! A bound is there so that a peer, a file or a caller can never make a node grow without limit.
//! Relations between bounds are asserted at compile time at the end of this file.

/// Largest frame on a peer stream, bytes. A longer announcement is refused before any allocation.
pub const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Largest request a peer may send, bytes: requests are small, answers are not.
pub const REQUEST_BYTES_MAX: usize = 256 * 1024;
/// Step by which a frame buffer grows while its bytes arrive, bytes.
pub const FRAME_READ_STEP_BYTES: usize = 64 * 1024;

/// Members in one federation, present and past.
pub const MEMBERS_MAX: usize = 1024;
/// Member descriptors in one answer; whoever lacks more asks again.
pub const DESCRIPTORS_PER_ANSWER_MAX: usize = 128;
/// Addresses one member may announce.
pub const ADDRESSES_PER_MEMBER_MAX: usize = 8;
/// Socket addresses tried in one dial.
pub const DIAL_ADDRESSES_MAX: usize = 8;
/// Length of a host name or address in text, bytes.
pub const HOST_BYTES_MAX: usize = 255;
/// Length of a node's name, bytes.
pub const NODE_NAME_BYTES_MAX: usize = 64;
/// Length of a collection's name, bytes.
pub const COLLECTION_NAME_BYTES_MAX: usize = 64;
/// Length of an organisation's name, bytes.
pub const ORGANISATION_NAME_BYTES_MAX: usize = 64;
/// Length of a record id, bytes.
pub const RECORD_ID_BYTES_MAX: usize = 256;

/// Collections on one node.
pub const COLLECTIONS_MAX: usize = 1024;
/// Dimensions of a vector.
pub const DIMENSIONS_MAX: usize = 4096;
/// Length of a record's title, bytes.
pub const TITLE_BYTES_MAX: usize = 4 * 1024;
/// Length of a record's text, bytes.
pub const TEXT_BYTES_MAX: usize = 256 * 1024;
/// Metadata fields of one record.
pub const METADATA_FIELDS_MAX: usize = 64;
/// Length of one metadata key or text value, bytes.
pub const METADATA_VALUE_BYTES_MAX: usize = 4 * 1024;
/// Items in one list-valued metadata field.
pub const METADATA_LIST_ITEMS_MAX: usize = 64;
/// Records in one atomic write.
pub const BATCH_RECORDS_MAX: usize = 1000;
/// Length of an embedder's name, bytes.
pub const EMBEDDER_BYTES_MAX: usize = 128;
/// Vectors up to which a collection is scanned exactly unless its store is opened otherwise; above,
/// candidates are chosen by one bit a component and then scored exactly.
pub const EXACT_SCAN_RECORDS_MAX: usize = 20_000;
/// Connections with which an embedded store is read at once.
pub const READ_CONNECTIONS_MAX: usize = 64;
/// Records of one contiguous piece of a collection's search structures in memory.
pub const SEGMENT_RECORDS_MAX: usize = 64 * 1024;
/// Decoded postings that one collection keeps in memory between two writes, each 8 bytes.
pub const POSTINGS_CACHED_MAX: usize = 4 * 1024 * 1024;
/// Imports whose progress a collection remembers; the oldest is forgotten first.
pub const IMPORTS_REMEMBERED_MAX: usize = 1024;
/// Length of one line of an import file, bytes.
pub const IMPORT_LINE_BYTES_MAX: usize = 1024 * 1024;
/// Length of the header of a vector file, bytes.
pub const NPY_HEADER_BYTES_MAX: usize = 64 * 1024;

/// Results one query may ask for.
pub const TOP_K_MAX: usize = 1000;
/// Length of a query's text, bytes.
pub const QUERY_TEXT_BYTES_MAX: usize = 8 * 1024;
/// Distinct terms of a text query that are scored.
pub const QUERY_TERMS_MAX: usize = 64;
/// Conditions in one filter.
pub const FILTER_CONDITIONS_MAX: usize = 16;
/// Text that one hit carries across the wire, bytes; the full text stays with its owner.
pub const HIT_TEXT_BYTES_MAX: usize = 2 * 1024;
/// Bytes of all hits in one answer; an answer that would be longer is cut at its lowest ranks.
pub const ANSWER_BYTES_MAX: usize = 6 * 1024 * 1024;
/// Collections that one source searches for one query; more are left out.
pub const COLLECTIONS_PER_QUERY_MAX: usize = 64;
/// Members that an anonymous query passes, the one that answers included.
pub const HOPS_MAX: u8 = 5;
/// Shortest and longest deadline of a query, milliseconds.
pub const DEADLINE_MILLIS_MIN: u64 = 10;
/// See [`DEADLINE_MILLIS_MIN`].
pub const DEADLINE_MILLIS_MAX: u64 = 120_000;
/// Queries a node runs for its own users at once.
pub const LOCAL_QUERIES_IN_FLIGHT_MAX: usize = 1024;
/// Searches a node runs for one peer at once; more are declined as busy.
pub const SEARCHES_PER_PEER_MAX: usize = 64;
/// Searches a node runs for everybody at once; more are declined as busy.
pub const SEARCHES_IN_FLIGHT_MAX: usize = 512;

/// Capabilities a member may announce, in all of its sets together.
pub const CAPABILITIES_MAX: usize = 32;
/// Sessions with one peer: the one in use and the one that replaces it.
pub const SESSIONS_PER_PEER_MAX: usize = 4;
/// Connections that have not yet shown who they are, in all.
pub const CONNECTIONS_PENDING_MAX: usize = 256;
/// Sessions in all.
pub const SESSIONS_MAX: usize = 2 * MEMBERS_MAX;
/// Handshakes in progress above which a caller must first show that it owns its address.
pub const CONNECTIONS_PENDING_RETRY: usize = 32;
/// Handshakes in progress from one network whose callers have not shown that they own their address.
pub const CONNECTIONS_PENDING_UNVALIDATED_PER_NETWORK_MAX: usize = 8;
/// Handshakes in progress from one network whose callers have shown that they own their address.
pub const CONNECTIONS_PENDING_PER_NETWORK_MAX: usize = 64;
/// Connections that are ready and wait to be taken by the node.
pub const CONNECTIONS_READY_MAX: usize = 64;
/// Streams a peer may hold open at once on one connection.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 256;
/// Bytes a peer may have under way on one stream before they are read.
pub const STREAM_WINDOW_BYTES: usize = 1024 * 1024;
/// Bytes a peer may have under way on all streams of one connection before they are read.
pub const CONNECTION_WINDOW_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of datagrams that the system holds for the node in each direction, where it allows that many.
pub const SOCKET_BUFFER_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of requests that are being received or answered, on one connection.
pub const REQUEST_BYTES_PER_CONNECTION_MAX: usize = 2 * 1024 * 1024;
/// Bytes of answers that are being received, on one connection.
pub const ANSWER_BYTES_PER_CONNECTION_MAX: usize = 2 * FRAME_BYTES_MAX;
/// Bytes of answers that are being received, on one node.
pub const ANSWER_BYTES_IN_FLIGHT_MAX: usize = 256 * 1024 * 1024;
/// Frames in one answer.
pub const RESPONSE_FRAMES_MAX: usize = 1024;
/// Length of the reason that is kept when a peer closes a connection, bytes.
pub const CLOSE_REASON_BYTES_MAX: usize = 128;
/// Open invites of one node.
pub const INVITES_OPEN_MAX: usize = 64;
/// Joiners waiting for approval on one node.
pub const JOINERS_PENDING_MAX: usize = 64;
/// Length of the reason given for a refusal or a removal, bytes.
pub const REASON_BYTES_MAX: usize = 512;
/// Federation tokens a session keeps at once: the one in use and the one that renews it.
pub const TOKENS_PER_SESSION_MAX: usize = 4;

/// How long a connection may take to finish its handshake, milliseconds.
pub const HANDSHAKE_TIMEOUT_MILLIS: u64 = 5_000;
/// How long a connection may be silent before it is closed, milliseconds.
pub const IDLE_TIMEOUT_MILLIS: u64 = 30_000;
/// How long a frame that was begun on a lane may take to arrive, milliseconds.
pub const LANE_FRAME_MILLIS_MAX: u64 = 60_000;
/// How long a peer may take to send its request on a stream it opened, milliseconds.
pub const REQUEST_READ_TIMEOUT_MILLIS: u64 = 5_000;
/// Longest a stream may live, milliseconds.
pub const STREAM_TIMEOUT_MILLIS: u64 = DEADLINE_MILLIS_MAX + 5_000;
/// How long a dial waits for an answer before it is begun again beside the attempts that wait, milliseconds:
/// over a way that opens meanwhile a new attempt is through at once, where an old one waits ever longer to
/// ask again.
pub const DIAL_AGAIN_MILLIS: u64 = 1_000;
/// How long a peer may leave what is sent to it unacknowledged before it is dialled afresh, milliseconds.
pub const SILENCE_MILLIS: u64 = 1_000;
/// How often that is looked at, milliseconds.
pub const SILENCE_LOOK_MILLIS: u64 = 250;
/// First wait before a lost peer is dialled again, milliseconds; it doubles up to the maximum.
pub const RECONNECT_MILLIS_MIN: u64 = 250;
/// The longest such wait for a voter, whom others wait for, milliseconds.
pub const RECONNECT_VOTER_MILLIS_MAX: u64 = 1_000;
/// The longest such wait for a member that was lost lately, milliseconds.
pub const RECONNECT_LATELY_MILLIS_MAX: u64 = 4_000;
/// How many failed dials are lately: some ten minutes.
pub const RECONNECT_LATELY_DIALS: u32 = 64;
/// The longest such wait at all, milliseconds.
pub const RECONNECT_MILLIS_MAX: u64 = 30_000;
/// A connection is replaced after this long, so that fresh keys follow a compromise, milliseconds.
pub const REKEY_MILLIS: u64 = 30 * 60 * 1000;

/// Connections that the local API holds open at once; more wait to be accepted.
pub const API_CONNECTIONS_MAX: usize = 1024;
/// Requests that the local API works on at once; more are answered as busy.
pub const API_REQUESTS_IN_FLIGHT_MAX: usize = 256;
/// Batches of records that the local API reads or writes at once; more are answered as busy.
pub const API_WRITES_IN_FLIGHT_MAX: usize = 4;
/// Length of a request's head on the local API, bytes.
pub const API_HEAD_BYTES_MAX: usize = 32 * 1024;
/// Length of a request's body on the local API, bytes; a batch of records has its own bound.
pub const API_BODY_BYTES_MAX: usize = 256 * 1024;
/// Length of a batch of records on the local API, bytes.
pub const API_RECORDS_BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Statements that one request to the local API proposes.
pub const API_PROPOSALS_MAX: usize = 1024;
/// Length of a body that proposes, bytes: a bundle of statements in base64, and what is around it.
pub const API_PROPOSALS_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Decisions on one page of the local API's list.
pub const DECISIONS_PER_PAGE_MAX: usize = 1000;
/// Size at which the importer sends a batch that has fewer records than it may, bytes.
pub const IMPORT_BATCH_BYTES: usize = 8 * 1024 * 1024;
/// How long an API connection may take to send a request's head, or stay idle, milliseconds.
pub const API_HEAD_READ_TIMEOUT_MILLIS: u64 = 5_000;
/// How long an API connection may take to send a request's body, milliseconds.
pub const API_BODY_READ_TIMEOUT_MILLIS: u64 = 30_000;
/// Longest life of an API connection, milliseconds.
pub const API_CONNECTION_LIFE_MILLIS_MAX: u64 = 10 * 60 * 1000;
/// How long a node that is stopping lets work under way finish, milliseconds.
pub const DRAIN_MILLIS_MAX: u64 = 10_000;
/// Length of an answer that the command line takes from the local API, bytes.
pub const API_ANSWER_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Queries of one command that are under way at once.
pub const COMMAND_QUERIES_IN_FLIGHT_MAX: usize = 4;
/// Rows of one query file.
pub const QUERY_ROWS_MAX: usize = 100_000;

/// Life of a federation token, milliseconds.
pub const TOKEN_LIFE_MILLIS: u64 = 60 * 60 * 1000;
/// A token is renewed when less than this is left of its life, milliseconds.
pub const TOKEN_RENEW_BEFORE_MILLIS: u64 = TOKEN_LIFE_MILLIS / 3;
/// Clock difference between members that token checks forgive, milliseconds.
pub const CLOCK_SKEW_MILLIS_MAX: u64 = 5_000;
/// Life of an invite unless asked otherwise, milliseconds.
pub const INVITE_LIFE_MILLIS: u64 = 24 * 60 * 60 * 1000;
/// Longest life of an invite, milliseconds.
pub const INVITE_LIFE_MILLIS_MAX: u64 = 30 * 24 * 60 * 60 * 1000;
/// Life of a member descriptor, milliseconds.
pub const DESCRIPTOR_LIFE_MILLIS: u64 = 7 * 24 * 60 * 60 * 1000;
/// Length of a KEM epoch, milliseconds.
pub const KEM_EPOCH_MILLIS: u64 = 24 * 60 * 60 * 1000;
/// How long a KEM key still opens what arrives after its epoch, milliseconds; then it is erased.
pub const KEM_GRACE_MILLIS: u64 = 150_000;
/// Length of a key file, bytes.
pub const KEY_FILE_BYTES_MAX: usize = 16 * 1024;
/// KEM keys a node holds at once: the retired one in its grace, the current and the next.
pub const KEM_KEYS_MAX: usize = 3;
/// Length of one sealed message without its encapsulation, bytes.
pub const SEALED_BYTES_MAX: usize = 7 * 1024 * 1024;

/// Members that one onion packet passes, the one that answers included.
pub const ONION_HOPS_MAX: usize = HOPS_MAX as usize;
/// Length of a small onion packet, bytes: the same on every link.
pub const ONION_PACKET_SMALL_BYTES: usize = 8 * 1024;
/// Length of a large onion packet, bytes: the same on every link.
pub const ONION_PACKET_LARGE_BYTES: usize = 16 * 1024;
/// Length of an onion packet without its payload, bytes.
pub const ONION_HEADER_BYTES_MAX: usize = 6 * 1024;
/// Length of one chunk of an onion reply, bytes.
pub const ONION_REPLY_CHUNK_BYTES_MAX: usize = 16 * 1024;
/// Length of a small onion reply, bytes.
pub const ONION_REPLY_SMALL_BYTES: usize = 4 * 1024;
/// Length of a medium onion reply, bytes.
pub const ONION_REPLY_MEDIUM_BYTES: usize = 16 * 1024;
/// Length of a large onion reply, bytes.
pub const ONION_REPLY_LARGE_BYTES: usize = 64 * 1024;
/// How long a member may be asked to hold an onion packet before it goes on, milliseconds.
pub const ONION_DELAY_MILLIS_MAX: u16 = 10_000;
/// Shortest life of an onion packet at one hop, milliseconds from when it should arrive there.
pub const ONION_LIFE_MILLIS_MIN: u64 = 60_000;
/// See [`ONION_LIFE_MILLIS_MIN`].
pub const ONION_LIFE_MILLIS_MAX: u64 = 120_000;
/// Step in which expiries of onion packets are written, milliseconds; they are rounded up.
pub const ONION_EXPIRY_STEP_MILLIS: u64 = 10_000;
/// How long a member remembers an onion packet, milliseconds; none that lives longer is taken.
pub const ONION_REPLAY_WINDOW_MILLIS: u64 = 150_000;
/// Steps in which a member forgets onion packets, milliseconds.
pub const ONION_REPLAY_STEP_MILLIS: u64 = 30_000;
/// Onion packets that a member remembers; further ones are dropped until the oldest are forgotten.
pub const ONION_REPLAYS_MAX: usize = 1024 * 1024;
/// Relays that a member keeps to begin its paths with, the one in use and those in reserve.
pub const ONION_FIRST_RELAYS_MAX: usize = 8;
/// Packets of one question for one member, each over a path of its own.
pub const ONION_ATTEMPTS_MAX: u8 = 4;
/// How long a relay on a path that failed is not chosen again where others will do, milliseconds.
pub const ONION_DOUBT_MILLIS: u64 = 30_000;
/// Onion packets a second that a member takes from one neighbour, unless it is configured otherwise.
pub const ONION_PACKETS_PER_SECOND: u32 = 1_000;
/// See [`ONION_PACKETS_PER_SECOND`]: the most that can be configured.
pub const ONION_PACKETS_PER_SECOND_MAX: u32 = 100_000;
/// Onion packets of one neighbour whose reply is owed at once; more are dropped.
pub const ONION_OWED_PER_PEER_MAX: usize = 256;
/// Onion packets of all neighbours whose reply is owed at once; more are dropped.
pub const ONION_OWED_MAX: usize = 4096;
/// Onion packets that a relay has sent on to one member and whose replies have not come; further ones
/// for that member are given back. Less than half of the streams and most of the bytes that the member
/// lets the relay have under way, so that held-back replies keep no other request from it.
pub const ONION_AWAITED_PER_PEER_MAX: usize = 96;
/// How long a relay waits for the reply to a packet it sent on, milliseconds.
pub const ONION_REPLY_WAIT_MILLIS: u64 = DEADLINE_MILLIS_MAX;
/// Mean time for which an asker may have each hop hold its packets back, milliseconds.
pub const ONION_MIX_MILLIS_MAX: u64 = 2_000;
/// Cover packets a minute that a node may be configured to send.
pub const ONION_COVER_PER_MINUTE_MAX: u32 = 600;

/// Entries of one transparency log.
pub const LOG_ENTRIES_MAX: u64 = 1 << 62;
/// Entries of a log whose hashes are kept in memory.
pub const LOG_MEMORY_ENTRIES_MAX: u64 = 16 * 1024 * 1024;
/// Hashes in one inclusion or consistency path of a log.
pub const LOG_PATH_HASHES_MAX: usize = 63;
/// Length of one entry that an entry bundle or a proof carries, bytes (c2sp.org/tlog-tiles).
pub const LOG_ENTRY_BYTES_MAX: usize = 65_535;
/// Length of a log's origin or of a signer's key name, bytes (c2sp.org/tlog-cosignature).
pub const LOG_NAME_BYTES_MAX: usize = 255;
/// Length of a checkpoint's text, bytes.
pub const LOG_CHECKPOINT_BYTES_MAX: usize = 1024;
/// Signatures on one note: of all members and of a few others, who are ignored.
pub const NOTE_SIGNATURES_MAX: usize = LOG_POLICY_WITNESSES_MAX + 16;
/// Length of one signature on a note or of a verifier key's material, bytes.
pub const NOTE_SIGNATURE_BYTES_MAX: usize = 8 * 1024;
/// Length of a signed note, bytes.
pub const NOTE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Length of a commit proof as a file, bytes.
pub const LOG_PROOF_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Length of a log policy as a file, bytes.
pub const LOG_POLICY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Witnesses in one log policy.
pub const LOG_POLICY_WITNESSES_MAX: usize = 256;
/// Groups in one log policy.
pub const LOG_POLICY_GROUPS_MAX: usize = 64;
/// Entries of a log up to which a proof that fails is tried at every index, to say whether its index is
/// what is wrong.
pub const LOG_DIAGNOSED_ENTRIES_MAX: u64 = 1024;

/// Voting members of one epoch.
pub const VOTERS_MAX: usize = 32;
/// Voting members that tolerate one fault: fewer do not decide by consensus.
pub const VOTERS_MIN: usize = 4;
/// Length of a voting member's public keys as the log holds them, bytes.
pub const VOTER_KEYS_BYTES_MAX: usize = 4 * 1024;
/// Length of a cosignature, bytes.
pub const COSIGNATURE_BYTES_MAX: usize = 2560;
/// Length of one update's content, bytes.
pub const UPDATE_BYTES_MAX: usize = 16 * 1024;
/// Updates that a member signs at once.
pub const BUNDLE_UPDATES_MAX: usize = 1024;
/// Length of the updates that a member signs at once, bytes.
pub const BUNDLE_BYTES_MAX: usize = 256 * 1024;
/// Bundles of one member that wait to be ordered on one replica.
pub const BUNDLES_PENDING_PER_MEMBER_MAX: usize = 4;
/// Bundles in one batch.
pub const BATCH_BUNDLES_MAX: usize = 64;
/// Length of the updates of one batch, bytes; one bundle always fits.
pub const BATCH_BYTES_MAX: usize = 512 * 1024;
/// Updates of a node's own that wait to be put into a bundle.
pub const SUBMISSIONS_WAITING_MAX: usize = 8 * 1024;
/// Updates that a member proposes in one call, all of them or none.
pub const SUBMISSIONS_TOGETHER_MAX: usize = 4 * 1024;
/// Batches that a primary has in flight at first.
pub const BATCHES_IN_FLIGHT_MIN: usize = 2;
/// Batches that a primary has in flight when more updates wait than one batch takes.
pub const BATCHES_IN_FLIGHT_MAX: usize = 4;
/// Batches past the last certified checkpoint that a primary may propose.
pub const PROPOSED_SEQUENCES_MAX: u64 = 16;
/// Batches past the last certified checkpoint that a replica votes on: a primary whose checkpoint is
/// ahead by all that it may propose is still heard.
pub const ACCEPTED_SEQUENCES_MAX: u64 = 32;
/// Digests that a replica remembers having accepted for one sequence number, over all views.
pub const ACCEPTED_DIGESTS_PER_SEQUENCE_MAX: usize = 16;
/// Messages of the commit protocol that wait for the disk on one replica; further ones are dropped and
/// sent again later.
pub const CONSENSUS_OUTBOX_MAX: usize = 4 * 1024;
/// Length of the logged batches in one piece of a state transfer, bytes; one batch always fits.
pub const TRANSFER_BYTES_MAX: usize = 1024 * 1024;
/// Logged batches in one piece of a state transfer.
pub const TRANSFER_BATCHES_MAX: usize = 256;
/// Hashes in a consistency proof of the log, and peaks of its tree.
pub const TREE_HASHES_MAX: usize = 128;
/// Length of the journal of a replica between two times that it is begun anew, bytes; none is longer.
pub const JOURNAL_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Step by which a journal's room is made ready before records fill it, bytes.
pub const JOURNAL_STEP_BYTES: u64 = 1024 * 1024;
/// Contents of batches that a journal keeps in memory, so that the record of a committed batch names its
/// content instead of having it again: more than are under way at once.
pub const JOURNAL_CONTENTS_MAX: usize = 16;
/// How long a waiting update is left to a primary before its view is given up, milliseconds; the wait
/// doubles with every view that brings nothing.
pub const VIEW_TIMEOUT_MILLIS: u64 = 1_000;
/// How often that wait doubles at most.
pub const VIEW_TIMEOUT_DOUBLINGS_MAX: u32 = 6;
/// How many times as long as the last batch took a view must be allowed at least, to be allowed less.
pub const VIEW_TIMEOUT_BATCHES: u32 = 4;
/// How often a replica says what it has while something is outstanding, milliseconds.
pub const STATUS_BUSY_MILLIS: u64 = 200;
/// How often a replica says what it has while nothing is outstanding, milliseconds.
pub const STATUS_IDLE_MILLIS: u64 = 2_000;
/// How soon after the last one a replica answers a peer's status again, milliseconds.
pub const STATUS_ANSWER_MILLIS: u64 = 50;
/// How long a replica leaves a peer with what it told it before it says the same again, milliseconds; the
/// pause doubles while nothing changes. Of the long messages that begin a view it is the time of a view.
pub const AGAIN_MILLIS: u64 = 400;
/// The longest such pause, milliseconds.
pub const AGAIN_MILLIS_MAX: u64 = 8_000;
/// How long a signature that this node is to make may take before it is asked for again, milliseconds; the
/// wait doubles up to [`AGAIN_MILLIS_MAX`].
pub const SIGN_AGAIN_MILLIS: u64 = 1_000;
/// How long a peer may take to answer with a piece of its log before another is asked, milliseconds.
pub const TRANSFER_TIMEOUT_MILLIS: u64 = 500;
/// The longest such time, milliseconds: it is twice as long as the last piece took, and doubles while nobody
/// answers.
pub const TRANSFER_TIMEOUT_MILLIS_MAX: u64 = 4_000;
/// Members without a vote that a replica remembers to have more of the log than it.
pub const TRANSFER_CLAIMS_MAX: usize = 64;
/// Bytes of the log that a node sends to one member within a second; what it asks for beyond that is not
/// sent, and it asks again. The piece with which the bound is reached is sent whole.
pub const SERVED_BYTES_PER_SECOND_MAX: u64 = 8 * 1024 * 1024;
/// Members to whom a node sends its log within a second.
pub const SERVED_PEERS_MAX: usize = 256;
/// Length of one message of the commit protocol, bytes. The longest is a piece of the log: a batch of the
/// shortest updates takes three times its counted length there.
pub const CONSENSUS_MESSAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes of messages that wait to be sent to one peer over its lane; further ones are dropped.
pub const LANE_OUTBOX_BYTES_MAX: usize = 2 * CONSENSUS_MESSAGE_BYTES_MAX;
/// Messages that wait to be sent to one peer over its lane; further ones are dropped.
pub const LANE_OUTBOX_FRAMES_MAX: usize = 4 * 1024;
/// Bytes of messages that wait on all lanes of a node, in each direction.
pub const LANES_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Bytes of messages that are being received over one lane or wait to be looked at, each with
/// [`LANE_FRAME_COST_BYTES`] more; the peer waits for room.
pub const LANE_INBOX_BYTES_MAX: usize = 2 * CONSENSUS_MESSAGE_BYTES_MAX;
/// What a message that waits takes beside its own bytes, bytes.
pub const LANE_FRAME_COST_BYTES: usize = 256;
/// Length of a statement that a federation commits, bytes: with its frame it is one update.
pub const STATEMENT_BYTES_MAX: usize = UPDATE_BYTES_MAX - 64;
/// Decisions that one voter has proposed and that wait for others to propose the same; the oldest is
/// forgotten for a further one.
pub const DECISIONS_WISHED_PER_VOTER_MAX: usize = 64;
/// How soon a wish for a change of seats that found no room is said again, milliseconds.
pub const SEAT_WISH_MILLIS: u64 = 1_000;
/// Long messages of one peer that are checked or wait for it beside its lane.
pub const CHECKS_PER_PEER_MAX: usize = 4;
/// Long messages of all peers that are checked at once.
pub const CHECKS_AT_ONCE_MAX: usize = 2;
/// Pieces of the log that are read for others at once; who asks beyond that asks again.
pub const SERVES_AT_ONCE_MAX: usize = 8;
/// Certified decisions that a watcher may be behind; then it is told that it missed some.
pub const DECISIONS_WATCHED_MAX: usize = 1024;
/// Outcomes of decisions that a node keeps in memory; older ones are in a file.
pub const OUTCOMES_KEPT_MAX: usize = 1024 * 1024;
/// Outcomes that are written to that file at once.
pub const OUTCOMES_SPILLED_AT_ONCE: usize = 4 * 1024;
/// Epochs that are over whose voters a node keeps in memory once somebody asked for them.
pub const FORMER_EPOCHS_KEPT_MAX: usize = 16;
/// Batches that must be committed between two rejoinings of one member.
pub const REJOIN_SEQUENCES_MIN: u64 = 64;

/// Items of one replicated set or map that a peer may send as a whole, tombstones included.
pub const CRDT_ITEMS_MAX: usize = 4 * 1024 * 1024;
/// Items of one delta of a replicated set or map.
pub const CRDT_DELTA_ITEMS_MAX: usize = 64 * 1024;
/// Dots that one element of an observed-remove set may stand on.
pub const CRDT_DOTS_PER_ELEMENT_MAX: usize = 1024;
/// Length of one replicated set or map on the wire, bytes.
pub const CRDT_STATE_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// Length of one delta on the wire, bytes.
pub const CRDT_DELTA_BYTES_MAX: usize = FRAME_BYTES_MAX - 1024;
/// How far ahead of the local clock a remote stamp may be and still be folded into it, milliseconds.
/// Entries beyond are kept and take effect later.
pub const CLOCK_DRIFT_MILLIS_MAX: u64 = 5_000;
/// The last moment a stamp can name, milliseconds since the epoch: 48 bits, the year 10889.
pub const STAMP_MILLIS_MAX: u64 = (1 << 48) - 1;
/// Entries in one signed batch.
pub const BATCH_ENTRIES_MAX: usize = 256;
/// How long written entries wait for others at most before their batch is signed, milliseconds.
pub const BATCH_FLUSH_MILLIS: u64 = 50;
/// Dots that one entry may say it has observed.
pub const OBSERVED_DOTS_MAX: usize = 64;
/// Length of the value behind an entry, bytes.
pub const ENTRY_VALUE_BYTES_MAX: usize = 64 * 1024;
/// Length of one entry's encoding, bytes.
pub const ENTRY_BYTES_MAX: usize = 4 * 1024;
/// Entries of one author that wait above the cut of a shared collection.
pub const ENTRIES_PER_AUTHOR_MAX: u64 = 1024 * 1024;
/// Bytes of entries and values of one author that wait above the cut of a shared collection.
pub const ENTRY_BYTES_PER_AUTHOR_MAX: u64 = 256 * 1024 * 1024;
/// Batches of one author that wait above the cut of a shared collection.
pub const BATCHES_PER_AUTHOR_MAX: u64 = 64 * 1024;
/// Headers kept of one author and one number: two are the proof, more add nothing.
pub const FORKS_PER_SEQ_MAX: usize = 2;
/// Proofs of double signing kept of one author.
pub const EVIDENCE_PER_AUTHOR_MAX: usize = 16;
/// Epochs that an entry may be late: one that names an older checkpoint is void.
pub const EPOCHS_LATE_MAX: usize = 4;
/// Entries that live under one checkpoint.
pub const LIVE_ENTRIES_MAX: usize = CRDT_ITEMS_MAX;
/// Items that one reconciliation compares.
pub const SYNC_ITEMS_MAX: usize = 8 * 1024 * 1024;
/// Cells of one layer of a reconciliation's table.
pub const SYNC_LAYER_CELLS_MAX: usize = 256 * 1024;
/// Layers of one reconciliation's table, after which its key is changed.
pub const SYNC_LAYERS_MAX: usize = 5;
/// Keys tried in one reconciliation before it falls back to ranges.
pub const SYNC_KEYS_MAX: usize = 2;
/// Ranges in one message of a reconciliation by ranges.
pub const SYNC_RANGES_MAX: usize = 64 * 1024;
/// Messages that one side takes in one reconciliation.
pub const SYNC_MESSAGES_MAX: usize = 16 * 1024;
/// Items that one side may ask for in one message.
pub const SYNC_WANTS_MAX: usize = 512 * 1024;
/// Length of one message of a reconciliation, bytes.
pub const SYNC_MESSAGE_BYTES_MAX: usize = FRAME_BYTES_MAX - 1024;
/// Bytes of items that a reconciliation puts in one message before the next is begun: what has come whole is
/// taken in and passed on while the rest is on its way.
pub const SYNC_PART_BYTES: usize = 256 * 1024;
/// Bytes of values that an author puts in one batch, and a member in one answer, before the next is begun.
pub const SYNC_ITEMS_STEP_BYTES: usize = 1024 * 1024;
/// Length of one file of a shared collection's log from which on the next is begun, bytes.
pub const SHARED_SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Length of one atomic write to a shared collection's log, bytes: a checkpoint's, which names every live
/// entry.
pub const SHARED_FRAME_BYTES_MAX: usize = 2 * 1024 * 1024 * 1024;
/// Length of a key in a shared collection's log, bytes.
pub const SHARED_KEY_BYTES_MAX: usize = 64;
/// Bytes of values that a shared collection's log moves in one write when it drops a file.
pub const SHARED_MOVE_BYTES: usize = 8 * 1024 * 1024;
/// Shared collections on one node.
pub const SHARED_COLLECTIONS_MAX: usize = 256;
/// Collections that a federation's log declares.
pub const SHARED_DECLARED_MAX: usize = 256;
/// Collections that one member can make another hold by naming them, undeclared ones.
pub const SHARED_COLLECTIONS_PER_PEER_MAX: usize = 8;
/// Members whom one declaration of a shared collection names as readers, or as writers.
pub const SHARE_MEMBERS_MAX: usize = 240;
/// Writes to one shared collection that wait for the disk before a further one is refused.
pub const SHARED_WRITES_WAITING_MAX: usize = 8 * 1024;
/// Batches of one shared collection that a member signs in a second as writes come, however few are in each.
/// What comes beyond waits for others, at most [`BATCH_FLUSH_MILLIS`].
pub const SHARED_BATCHES_PER_SECOND: u64 = 32;
/// Such batches that may be signed one after another after a pause.
pub const SHARED_BATCHES_AT_ONCE: u32 = 64;
/// Messages about shared collections handed to one member's lane that have not left it yet.
pub const SHARED_WINDOW_MESSAGES: usize = 4;
/// Bytes of messages about shared collections that are being received over one connection or wait to be
/// looked at, each with [`LANE_FRAME_COST_BYTES`] more; the peer waits for room.
pub const SHARED_INBOX_BYTES_MAX: usize = FRAME_BYTES_MAX + LANE_FRAME_COST_BYTES;
/// Bytes of such messages on all connections of a node.
pub const SHARED_INBOXES_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Bytes of shared collections that wait for the disk before nothing more is heard from other members.
pub const SHARED_UNSAVED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Checkpoints that wait to be proposed to the voters; further ones are said again later.
pub const SHARED_PROPOSALS_MAX: usize = 64;
/// Changes of one shared collection that a watcher may be behind before it is told that it missed some.
pub const SHARED_CHANGES_WATCHED_MAX: usize = 256;
/// Shared collections that are watched at once.
pub const SHARED_WATCHED_MAX: usize = 256;
/// Short messages about shared collections that wait for one member's lane.
pub const SHARED_OUTBOX_MAX: usize = 1024;
/// Messages about shared collections other than those of a session that one member may send, a second.
pub const SHARED_NEWS_PER_SECOND: u32 = 200;
/// Synchronisations of shared collections that one member may begin, a second.
pub const SHARED_OPENS_PER_SECOND: u32 = 16;
/// Synchronisations of shared collections under way on one node.
pub const SHARED_SESSIONS_MAX: usize = 128;
/// Of these with one member.
pub const SHARED_SESSIONS_PER_PEER_MAX: usize = 16;
/// Of these about one collection, without those that have been silent for [`SHARED_STALLED_MILLIS`].
pub const SHARED_TALKS_PER_COLLECTION_MAX: usize = 2;
/// As [`SHARED_TALKS_PER_COLLECTION_MAX`], of those that others began.
pub const SHARED_ANSWERS_PER_COLLECTION_MAX: usize = 4;
/// Batches more than a member's own that are much: they come from one other member at a time.
pub const SHARED_MUCH_BATCHES: u64 = 32;
/// Messages of one synchronisation that may bring nothing new.
pub const SHARED_BARREN_MESSAGES_MAX: usize = 256;
/// Live entries of a checkpoint in one message, each at most 40 bytes.
pub const SHARED_LIVE_PIECE_ENTRIES: usize = 16 * 1024;
/// Entries that one message asks to erase.
pub const SHARED_ERASED_PER_MESSAGE_MAX: usize = 256;
/// Values of shared entries that one message asks for or brings.
pub const SHARED_VALUES_MAX: usize = 256;
/// Entries of one shared collection of which a node remembers that their values have not come.
pub const SHARED_LACKING_MAX: usize = 64 * 1024;
/// Keys that a node names when a shared collection has changed, before it says that there are more.
pub const SHARED_CHANGED_KEYS_MAX: usize = 1024;
/// Keys in one page of a shared collection.
pub const SHARED_PAGE_KEYS_MAX: usize = 1024;
/// Pause between two messages to one member about news of one collection, milliseconds.
pub const SHARED_NEWS_MILLIS: u64 = 200;
/// Pause between two rounds in which a collection is compared with some member's unasked, milliseconds.
pub const SHARED_ROUND_MILLIS: u64 = 5_000;
/// How long a member that holds the same as one from which it is coming is not asked while nothing new comes,
/// milliseconds.
pub const SHARED_ASK_WAIT_MILLIS: u64 = 3_000;
/// Silence after which a synchronisation is given up, milliseconds.
pub const SHARED_SILENCE_MILLIS: u64 = 30_000;
/// Silence after which a synchronisation does not keep another member from being asked, milliseconds.
pub const SHARED_STALLED_MILLIS: u64 = 1_000;
/// Life of one synchronisation, milliseconds. What it brought stays, and the next one goes on.
pub const SHARED_SESSION_MILLIS_MAX: u64 = 10 * 60 * 1000;
/// Pause after a synchronisation that brought nothing though the states differ, milliseconds; it doubles.
pub const SHARED_PAUSE_MILLIS_MIN: u64 = 500;
/// The longest such pause, milliseconds.
pub const SHARED_PAUSE_MILLIS_MAX: u64 = 60_000;
/// How long a member that broke the protocol of shared collections is not listened to, milliseconds.
pub const SHARED_CUT_OFF_MILLIS: u64 = 60_000;
/// Batches of a shared collection above its checkpoint from which on a voter proposes the next one.
pub const SHARED_CUT_BATCHES: usize = 4 * 1024;
/// Pause after which a voter says a proposal again, or the next one in turn makes its own, milliseconds.
pub const SHARED_CUT_MILLIS: u64 = 5_000;
/// How old the time of a proposed checkpoint may be when a voter seconds it, milliseconds.
pub const SHARED_CUT_AGE_MILLIS_MAX: u64 = 120_000;
/// Queries whose responses a reconciled answer holds.
pub const RECONCILED_SLOTS_MAX: usize = 64 * 1024;
/// Responses kept of one source to one query over one snapshot: more than one is evidence.
pub const RESPONSES_PER_SLOT_MAX: usize = 2;
/// Lists in one response.
pub const RESPONSE_LEGS_MAX: usize = 64;

const _: () = assert!(TEXT_BYTES_MAX + TITLE_BYTES_MAX < IMPORT_LINE_BYTES_MAX);
const _: () = assert!(BATCH_RECORDS_MAX <= SEGMENT_RECORDS_MAX);
const _: () = assert!(REQUEST_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(ANSWER_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(ANSWER_BYTES_MAX < SEALED_BYTES_MAX && SEALED_BYTES_MAX < FRAME_BYTES_MAX);
const _: () =
    assert!(CLOCK_SKEW_MILLIS_MAX < KEM_GRACE_MILLIS && KEM_GRACE_MILLIS < KEM_EPOCH_MILLIS);
const _: () = assert!(ONION_HOPS_MAX >= 1 && ONION_HOPS_MAX < MEMBERS_MAX);
const _: () = assert!(ONION_HEADER_BYTES_MAX < ONION_PACKET_SMALL_BYTES);
const _: () = assert!(ONION_PACKET_SMALL_BYTES < ONION_PACKET_LARGE_BYTES);
const _: () = assert!(ONION_PACKET_LARGE_BYTES <= REQUEST_BYTES_MAX);
const _: () = assert!(ONION_REPLY_SMALL_BYTES <= ONION_REPLY_CHUNK_BYTES_MAX);
const _: () = assert!(ONION_REPLY_MEDIUM_BYTES.is_multiple_of(ONION_REPLY_CHUNK_BYTES_MAX));
const _: () = assert!(ONION_REPLY_LARGE_BYTES.is_multiple_of(ONION_REPLY_CHUNK_BYTES_MAX));
const _: () = assert!(ONION_REPLY_LARGE_BYTES <= ANSWER_BYTES_MAX);
const _: () = assert!(2 * ONION_AWAITED_PER_PEER_MAX < STREAMS_PER_CONNECTION_MAX as usize);
const _: () = assert!(
    ONION_AWAITED_PER_PEER_MAX * (ONION_PACKET_LARGE_BYTES + 64) + REQUEST_BYTES_MAX
        <= REQUEST_BYTES_PER_CONNECTION_MAX
);
const _: () = assert!(ONION_LIFE_MILLIS_MIN <= ONION_LIFE_MILLIS_MAX);
// A packet's expiry at its arrival, rounded up and seen by a clock that is behind, is remembered.
const _: () = assert!(
    ONION_LIFE_MILLIS_MAX + ONION_EXPIRY_STEP_MILLIS + CLOCK_SKEW_MILLIS_MAX
        <= ONION_REPLAY_WINDOW_MILLIS
);
const _: () = assert!(ONION_REPLAY_WINDOW_MILLIS.is_multiple_of(ONION_REPLAY_STEP_MILLIS));
// A packet made at the end of an epoch and held back on the way is opened within the key's grace.
const _: () = assert!(
    ONION_HOPS_MAX as u64 * ONION_DELAY_MILLIS_MAX as u64 + ONION_LIFE_MILLIS_MIN
        <= KEM_GRACE_MILLIS
);
const _: () = assert!(FRAME_READ_STEP_BYTES <= REQUEST_BYTES_MAX);
const _: () = assert!(CONNECTIONS_PENDING_RETRY < CONNECTIONS_PENDING_MAX);
const _: () = assert!(CONNECTIONS_PENDING_PER_NETWORK_MAX < CONNECTIONS_PENDING_MAX);
const _: () = assert!(CONNECTIONS_PENDING_UNVALIDATED_PER_NETWORK_MAX < CONNECTIONS_PENDING_RETRY);
const _: () = assert!(STREAM_WINDOW_BYTES <= CONNECTION_WINDOW_BYTES);
const _: () = assert!(FRAME_BYTES_MAX <= ANSWER_BYTES_PER_CONNECTION_MAX);
const _: () = assert!(REQUEST_BYTES_MAX <= REQUEST_BYTES_PER_CONNECTION_MAX);
const _: () = assert!(
    SEARCHES_PER_PEER_MAX * (4 * DIMENSIONS_MAX + QUERY_TEXT_BYTES_MAX)
        <= REQUEST_BYTES_PER_CONNECTION_MAX
);
const _: () = assert!(ANSWER_BYTES_PER_CONNECTION_MAX <= ANSWER_BYTES_IN_FLIGHT_MAX);
const _: () = assert!(4 * DIMENSIONS_MAX + QUERY_TEXT_BYTES_MAX < REQUEST_BYTES_MAX);
const _: () = assert!(SEARCHES_PER_PEER_MAX < SEARCHES_IN_FLIGHT_MAX);
const _: () = assert!(TOKEN_RENEW_BEFORE_MILLIS + CLOCK_SKEW_MILLIS_MAX < TOKEN_LIFE_MILLIS);
const _: () = assert!(STREAM_TIMEOUT_MILLIS > DEADLINE_MILLIS_MAX);
const _: () = assert!(RECONNECT_MILLIS_MIN < RECONNECT_VOTER_MILLIS_MAX);
const _: () = assert!(RECONNECT_VOTER_MILLIS_MAX < RECONNECT_LATELY_MILLIS_MAX);
const _: () = assert!(RECONNECT_LATELY_MILLIS_MAX < RECONNECT_MILLIS_MAX);
const _: () = assert!(DIAL_AGAIN_MILLIS * 2 < HANDSHAKE_TIMEOUT_MILLIS);
const _: () = assert!(SILENCE_LOOK_MILLIS < SILENCE_MILLIS && SILENCE_MILLIS < IDLE_TIMEOUT_MILLIS);
const _: () = assert!(API_WRITES_IN_FLIGHT_MAX < API_REQUESTS_IN_FLIGHT_MAX);
const _: () = assert!(API_REQUESTS_IN_FLIGHT_MAX < API_CONNECTIONS_MAX);
const _: () = assert!(16 * DIMENSIONS_MAX + 6 * QUERY_TEXT_BYTES_MAX < API_BODY_BYTES_MAX);
const _: () = assert!(2 * IMPORT_BATCH_BYTES < API_RECORDS_BODY_BYTES_MAX);
const _: () = assert!(2 * BUNDLE_BYTES_MAX < API_PROPOSALS_BODY_BYTES_MAX);
const _: () = assert!(API_PROPOSALS_MAX <= SUBMISSIONS_TOGETHER_MAX);
const _: () = assert!(2 * SUBMISSIONS_TOGETHER_MAX <= SUBMISSIONS_WAITING_MAX);
const _: () = assert!(DEADLINE_MILLIS_MAX < API_CONNECTION_LIFE_MILLIS_MAX);
const _: () = assert!(LOG_ENTRIES_MAX.ilog2() < LOG_PATH_HASHES_MAX as u32);
const _: () = assert!(LOG_MEMORY_ENTRIES_MAX < LOG_ENTRIES_MAX);
const _: () = assert!(LOG_NAME_BYTES_MAX <= u8::MAX as usize);
const _: () = assert!(LOG_ENTRY_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(2 * LOG_NAME_BYTES_MAX <= LOG_CHECKPOINT_BYTES_MAX);
// Cosignatures of all members in base64, each with its name; verifier keys likewise.
const _: () = assert!(NOTE_SIGNATURES_MAX * 4 * 1024 <= NOTE_BYTES_MAX);
const _: () = assert!(NOTE_BYTES_MAX + 2 * LOG_ENTRY_BYTES_MAX < LOG_PROOF_BYTES_MAX);
const _: () = assert!(LOG_POLICY_WITNESSES_MAX * 4 * 1024 < LOG_POLICY_BYTES_MAX);
const _: () = assert!(VOTERS_MAX <= LOG_POLICY_WITNESSES_MAX);
const _: () = assert!(LOG_PROOF_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(VOTERS_MAX >= 4 && VOTERS_MAX <= MEMBERS_MAX && VOTERS_MAX <= 64);
const _: () = assert!(UPDATE_BYTES_MAX < BUNDLE_BYTES_MAX && BUNDLE_BYTES_MAX <= BATCH_BYTES_MAX);
const _: () = assert!(2 * VOTER_KEYS_BYTES_MAX <= UPDATE_BYTES_MAX);
const _: () =
    assert!(4 * BATCH_BYTES_MAX < FRAME_BYTES_MAX && 4 * TRANSFER_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX <= TRANSFER_BYTES_MAX);
const _: () = assert!(4 * FRAME_BYTES_MAX as u64 + JOURNAL_STEP_BYTES < JOURNAL_BYTES_MAX);
const _: () = assert!(BATCHES_IN_FLIGHT_MIN <= BATCHES_IN_FLIGHT_MAX);
const _: () = assert!((BATCHES_IN_FLIGHT_MAX as u64) < PROPOSED_SEQUENCES_MAX);
const _: () = assert!(2 * PROPOSED_SEQUENCES_MAX <= ACCEPTED_SEQUENCES_MAX);
const _: () = assert!(ACCEPTED_SEQUENCES_MAX <= 32);
const _: () = assert!(TRANSFER_TIMEOUT_MILLIS < TRANSFER_TIMEOUT_MILLIS_MAX);
const _: () = assert!(TRANSFER_TIMEOUT_MILLIS_MAX <= AGAIN_MILLIS_MAX);
const _: () = assert!(TRANSFER_BYTES_MAX + BATCH_BYTES_MAX < CONSENSUS_MESSAGE_BYTES_MAX);
const _: () = assert!(CONSENSUS_MESSAGE_BYTES_MAX <= FRAME_BYTES_MAX);
const _: () = assert!(CONSENSUS_MESSAGE_BYTES_MAX + LANE_FRAME_COST_BYTES <= LANE_INBOX_BYTES_MAX);
const _: () = assert!(VOTERS_MAX * LANE_OUTBOX_BYTES_MAX <= LANES_BYTES_MAX);
const _: () = assert!(2 * SHARE_MEMBERS_MAX * 32 + 128 <= UPDATE_BYTES_MAX);
const _: () = assert!(SHARED_LIVE_PIECE_ENTRIES * 40 + 1024 <= SYNC_ITEMS_STEP_BYTES);
const _: () = assert!(SHARED_SESSIONS_PER_PEER_MAX < SHARED_SESSIONS_MAX);
const _: () = assert!(SHARED_INBOX_BYTES_MAX <= SHARED_INBOXES_BYTES_MAX);
const _: () = assert!(VOTERS_MAX * LANE_INBOX_BYTES_MAX <= LANES_BYTES_MAX);
const _: () = assert!(STATUS_BUSY_MILLIS * 2 <= VIEW_TIMEOUT_MILLIS);
const _: () = assert!(STATUS_BUSY_MILLIS <= AGAIN_MILLIS && AGAIN_MILLIS < VIEW_TIMEOUT_MILLIS);
const _: () = assert!(VIEW_TIMEOUT_MILLIS < AGAIN_MILLIS_MAX);
const _: () =
    assert!(STATUS_ANSWER_MILLIS < STATUS_BUSY_MILLIS && STATUS_BUSY_MILLIS < STATUS_IDLE_MILLIS);
const _: () = assert!(CRDT_DELTA_ITEMS_MAX <= CRDT_ITEMS_MAX);
const _: () = assert!(10 * SYNC_LAYER_CELLS_MAX < SYNC_MESSAGE_BYTES_MAX);
const _: () = assert!(8 * SYNC_WANTS_MAX < SYNC_MESSAGE_BYTES_MAX);
const _: () = assert!(BATCH_ENTRIES_MAX * ENTRY_BYTES_MAX < SYNC_MESSAGE_BYTES_MAX);
const _: () = assert!(CLOCK_DRIFT_MILLIS_MAX <= CLOCK_SKEW_MILLIS_MAX);
// Places in a file are four bytes.
const _: () =
    assert!(SHARED_FRAME_BYTES_MAX as u64 + SHARED_SEGMENT_BYTES + 4096 < u32::MAX as u64);

//! What a limit counts by: the client's address, who it is, or a part of its request.

// What the process of one peer keeps of root: the right that the kernel wants, and the calls that it needs.
#pragma once

#include <sys/types.h>

// From now on the process has the peer's user, groups and nothing of root but CAP_SYS_ADMIN, and may do no more than serve
// its socket. False with errno set.
bool becomePeer(int socket, uid_t uid, gid_t gid);

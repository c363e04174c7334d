/* The steps in which the root of the guest is made; first.c puts them in order. */
#ifndef ISOLA_MOUNTS_H
#define ISOLA_MOUNTS_H

#include "agent.h"

int make_files(const struct plan *plan, int *fds, const char *scratch);
int enter_root(const struct mount *root, char *why, size_t room);
int fill_root(const struct plan *plan, char *why, size_t room);
int put_files(const struct plan *plan, const int *fds, char *why, size_t room);

#endif

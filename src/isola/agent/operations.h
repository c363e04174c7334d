/* Operations of workers. */
#ifndef ISOLA_OPERATIONS_H
#define ISOLA_OPERATIONS_H

#include "agent.h"

enum operation {
    WORK_STAT = 1, WORK_OPEN, WORK_READ, WORK_WRITE, WORK_CLOSE, WORK_HANDLE_STAT, WORK_HANDLE_CHANGE, WORK_HANDLE_SYNC,
    WORK_HANDLE_SPACE, WORK_LIST, WORK_DRAFT, WORK_COMMIT, WORK_MAKE_DIRECTORY, WORK_MAKE_SYMLINK, WORK_REMOVE,
    WORK_TARGET, WORK_CHANGE, WORK_RENAME, WORK_LINK, WORK_SPACE,
    WORK_MOUNT = 30, WORK_UNMOUNT, WORK_SYNC, WORK_FREEZE, WORK_THAW, WORK_SYSCTL, WORK_CPUS
};

int change_file(int fd, struct reader *r);
int use_cpus(uint32_t wanted, uint32_t *used);
int put_space(struct buffer *answer, int fd);

#endif

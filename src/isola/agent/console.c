/* The terminal of the first process: a pseudo-terminal of the guest, whose master is relayed to a port. */
#include "agent.h"
#include "first.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

int open_pair_of_terminal(int *master, int *slave) {
    int locked = 0, flags = O_RDWR | O_NOCTTY | O_CLOEXEC;
    *slave = -1;
    *master = open("/dev/pts/ptmx", flags | O_NONBLOCK);
    if (*master < 0)
        *master = open("/dev/ptmx", flags | O_NONBLOCK);
    if (*master < 0)
        return errno;
    if (ioctl(*master, TIOCSPTLCK, &locked) == 0)
        *slave = ioctl(*master, TIOCGPTPEER, flags);
    if (*slave < 0) {
        close_fd(master);
        return ENODEV;
    }
    return 0;
}

void set_window(int fd, uint16_t columns, uint16_t rows) {
    struct winsize size = {.ws_row = rows ? rows : 25, .ws_col = columns ? columns : 80};
    ioctl(fd, TIOCSWINSZ, &size);
}

/* Programs of the guest, init above all, open their console by this name. */
int bind_console(int master) {
    char name[32];
    unsigned int number;
    if (ioctl(master, TIOCGPTN, &number) < 0)
        return errno;
    snprintf(name, sizeof(name), "/dev/pts/%u", number);
    int fd = open("/dev/console", O_CREAT | O_EXCL | O_WRONLY | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC, 0600);
    close_fd(&fd);
    return mount(name, "/dev/console", NULL, MS_BIND, NULL) < 0 ? errno : 0;
}

int send_text(int socket_fd, const char *text, int fd) {
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec part = {(void *)(uintptr_t)text, strlen(text) + 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof(control.room);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.header), &fd, sizeof(int));
    }
    return sendmsg(socket_fd, &message, 0) < 0 ? errno : 0;
}

ssize_t receive_text(int socket_fd, char *text, size_t room, int *fd) {
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {text, room - 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    ssize_t size;
    do {
        size = recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC);
    } while (size < 0 && errno == EINTR);
    text[size > 0 ? size : 0] = 0;
    *fd = -1;
    struct cmsghdr *header = size > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(fd, CMSG_DATA(header), sizeof(int));
    return size;
}

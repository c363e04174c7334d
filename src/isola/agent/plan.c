/* Reads the plan of the first process. */
#include "agent.h"

#include <stdlib.h>
#include <string.h>

#define MAX_ITEMS 4096

static size_t count_items(struct reader *r, size_t least) {
    size_t count = get_count(r, least);
    if (count > MAX_ITEMS)
        r->bad = true;
    return r->bad ? 0 : count;
}

static void read_mount(struct reader *r, struct mount *mount) {
    mount->source = get_text(r);
    mount->target = get_text(r);
    mount->kind = get_text(r);
    mount->flags = get_u32(r);
    mount->options = get_text(r);
}

static void read_mounts(struct reader *r, struct plan *plan) {
    plan->mount_count = count_items(r, 20);
    plan->mounts = allocate(plan->mount_count * sizeof(*plan->mounts));
    for (size_t i = 0; i < plan->mount_count; i++)
        read_mount(r, &plan->mounts[i]);
}

static void read_files(struct reader *r, struct plan *plan) {
    plan->file_count = count_items(r, 12);
    plan->files = allocate(plan->file_count * sizeof(*plan->files));
    for (size_t i = 0; i < plan->file_count; i++) {
        struct run_file *file = &plan->files[i];
        file->path = get_text(r);
        file->mode = get_u32(r);
        file->size = get_u32(r);
        file->data = get_bytes(r, file->size);
    }
}

static void read_settings(struct reader *r, struct plan *plan) {
    plan->sysctl_count = count_items(r, 8);
    plan->sysctls = allocate(plan->sysctl_count * sizeof(*plan->sysctls));
    for (size_t i = 0; i < plan->sysctl_count; i++) {
        plan->sysctls[i].name = get_text(r);
        plan->sysctls[i].value = get_text(r);
    }
    struct command *c = &plan->command;
    c->limit_count = count_items(r, 20);
    c->limits = allocate(c->limit_count * sizeof(*c->limits));
    for (size_t i = 0; i < c->limit_count; i++) {
        c->limits[i].resource = get_u32(r);
        c->limits[i].soft = get_u64(r);
        c->limits[i].hard = get_u64(r);
    }
}

static void read_devices(struct reader *r, struct plan *plan) {
    plan->device_count = count_items(r, 25);
    plan->devices = allocate(plan->device_count * sizeof(*plan->devices));
    for (size_t i = 0; i < plan->device_count; i++) {
        struct device *device = &plan->devices[i];
        device->path = get_text(r);
        device->kind = get_u8(r);
        device->major = get_u32(r);
        device->minor = get_u32(r);
        device->mode = get_u32(r);
        device->uid = get_u32(r);
        device->gid = get_u32(r);
    }
}

int read_plan(const uint8_t *body, size_t size, struct plan *plan) {
    *plan = (struct plan){0};
    plan->body = allocate(size);
    memcpy(plan->body, body, size);
    struct reader r = {plan->body, size, false};
    read_command(&r, &plan->command);
    plan->command.make_cwd = true;
    plan->flags = get_u8(&r);
    plan->command.mask = (int64_t)get_u64(&r);
    plan->stop_signal = get_u32(&r);
    plan->hostname = get_text(&r);
    read_mount(&r, &plan->root);
    read_mounts(&r, plan);
    read_files(&r, plan);
    read_settings(&r, plan);
    read_devices(&r, plan);
    plan->input = get_text(&r);
    plan->console = get_text(&r);
    plan->error = get_text(&r);
    return all_read(&r) ? 0 : EINVAL;
}

static void free_mount(struct mount *mount) {
    free(mount->source);
    free(mount->target);
    free(mount->kind);
    free(mount->options);
}

void free_plan(struct plan *plan) {
    free_command(&plan->command);
    free_mount(&plan->root);
    for (size_t i = 0; i < plan->mount_count; i++)
        free_mount(&plan->mounts[i]);
    for (size_t i = 0; i < plan->file_count; i++)
        free(plan->files[i].path);
    for (size_t i = 0; i < plan->sysctl_count; i++) {
        free(plan->sysctls[i].name);
        free(plan->sysctls[i].value);
    }
    for (size_t i = 0; i < plan->device_count; i++)
        free(plan->devices[i].path);
    void *all[] = {plan->hostname, plan->mounts, plan->files, plan->sysctls, plan->devices,
                   plan->input, plan->console, plan->error, plan->body};
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        free(all[i]);
    *plan = (struct plan){0};
}

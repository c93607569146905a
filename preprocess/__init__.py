"""Commands that turn folders of music into dataset folders: one file per dataset kind, one builder for all of them."""

"""Images in, batches out: data sets, their augmentation, and an order that depends on nothing but the seed.

Import from the files themselves (`soft.data.datamodule.ImageDataModule`, `soft.data.augmentation.Augmentation`,
`soft.data.sampling.seed_generators`), so that importing a light one does not load a heavy one.
"""

//! s3s-fs, with what S3 promises and s3s-fs leaves out: listings with ETags, no writing to buckets that don't exist,
//! and no reader or conditional write that sees another write half done.

use std::path::PathBuf;
use std::pin::Pin;

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CopyObjectInput, CopyObjectOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteObjectInput,
    DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, GetObjectInput, GetObjectOutput, HeadBucketInput,
    HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListObjectsV2Input, ListObjectsV2Output, PutObjectInput,
    PutObjectOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use tokio::sync::RwLock;

pub struct Store {
    root: PathBuf,
    files: RwLock<FileSystem>,
}

/// What `async_trait` makes of an `async fn`.
type Answer<'f, T> = Pin<Box<dyn Future<Output = S3Result<S3Response<T>>> + Send + 'f>>;

impl Store {
    pub fn new(root: PathBuf) -> Self {
        Self { files: RwLock::new(FileSystem::new(&root).unwrap()), root }
    }

    fn check(&self, bucket: &str) -> S3Result<()> {
        if self.root.join(bucket).is_dir() { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
    }
}

macro_rules! pass_on {
    ($($name:ident $lock:ident $input:ident $output:ident)*) => {$(
        fn $name<'s, 'f>(&'s self, request: S3Request<$input>) -> Answer<'f, $output>
        where
            's: 'f,
            Self: 'f,
        {
            Box::pin(async move {
                self.check(&request.input.bucket)?;
                self.files.$lock().await.$name(request).await
            })
        }
    )*};
}

impl S3 for Store {
    pass_on! {
        head_bucket read HeadBucketInput HeadBucketOutput
        get_object read GetObjectInput GetObjectOutput
        head_object read HeadObjectInput HeadObjectOutput
        put_object write PutObjectInput PutObjectOutput
        copy_object write CopyObjectInput CopyObjectOutput
        delete_object write DeleteObjectInput DeleteObjectOutput
        delete_objects write DeleteObjectsInput DeleteObjectsOutput
        create_multipart_upload write CreateMultipartUploadInput CreateMultipartUploadOutput
        upload_part write UploadPartInput UploadPartOutput
        complete_multipart_upload write CompleteMultipartUploadInput CompleteMultipartUploadOutput
        abort_multipart_upload write AbortMultipartUploadInput AbortMultipartUploadOutput
    }

    fn list_objects_v2<'s, 'f>(&'s self, request: S3Request<ListObjectsV2Input>) -> Answer<'f, ListObjectsV2Output>
    where
        's: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let files = self.files.read().await;
            let mut response = files.list_objects_v2(request.clone()).await?;
            for object in response.output.contents.iter_mut().flatten() {
                let head = request.clone().map_input(|listing| HeadObjectInput {
                    bucket: listing.bucket,
                    key: object.key.clone().unwrap_or_default(),
                    ..Default::default()
                });
                object.e_tag = files.head_object(head).await?.output.e_tag;
            }
            Ok(response)
        })
    }
}
